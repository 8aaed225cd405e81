// What the browser tests share: a real `kube-lite` on the real Docker daemon, and
// a real Chromium that looks at it.

import { type ChildProcess, execFile as execFileThen, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";

const execFile = promisify(execFileThen);

export const IMAGE = "kube-lite/hello:v1";
export const IMAGE_2 = "kube-lite/hello:v2";

const ROOT = join(import.meta.dirname, "../..");
const BINARY = process.env.KUBE_LITE_BIN ?? join(ROOT, "target/debug/kube-lite");
/** Where pictures go; `make screenshots` says docs/images. */
const SHOTS = process.env.SHOTS;

/** Far longer than anything here takes, on a machine that does much else. */
const LONG_MS = Number(process.env.PATIENCE_MS ?? 60_000);
const POLL_MS = 50;

/** Waits until something holds; says what it saw last when it does not. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  withinMs = LONG_MS,
): Promise<T> {
  const end = performance.now() + withinMs;
  let last: unknown;
  for (;;) {
    try {
      const seen = await look();
      if (seen) return seen;
      last = seen;
    } catch (error) {
      last = error;
    }
    if (performance.now() > end) throw new Error(`waited in vain for ${what}; last: ${last}`);
    await sleep(POLL_MS);
  }
}

// --- the product ---

/** A process of ours, ended at the latest with the test. */
class Role {
  readonly child: ChildProcess;
  output = "";
  private readonly over: Promise<void>;

  constructor(args: string[]) {
    this.child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    }
    this.over = new Promise((done) => {
      this.child.once("exit", () => done());
      this.child.once("error", (error) => {
        this.output += String(error);
        done();
      });
    });
  }

  /** The URL it announces behind these words. */
  async announced(words: string): Promise<string> {
    return until(`${words} in: ${this.output}`, async () => {
      if (this.child.exitCode !== null) throw new Error(`it ended: ${this.output}`);
      return this.output.split(words)[1]?.match(/^https?:\/\/[^\s,)]+(?=[\s,)])/)?.[0];
    });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill(signal);
    await this.over;
  }
}

/** What can be asked of a scheduler. */
export class Api {
  url: string;

  constructor(url: string) {
    this.url = url;
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(this.url + path);
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return (await response.json()) as T;
  }

  async send(method: string, path: string, body?: unknown): Promise<void> {
    const response = await fetch(this.url + path, {
      method,
      ...(body === undefined
        ? {}
        : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  }

  /** Waits until a workload is exactly as wanted. */
  async ready(name: string, count: number): Promise<void> {
    await until(`${name} to have ${count} ready`, async () => {
      const view = await this.get<{ ready: number; desired: number; stopping: number }>(
        `/workloads/${name}`,
      );
      return view.ready === count && view.desired === count && view.stopping === 0;
    });
  }

  async instances(
    name: string,
  ): Promise<{ id: string; nodeId: string; phase: string; revision: number }[]> {
    return this.get(`/instances?workload=${name}`);
  }

  async able(count: number): Promise<void> {
    await until(`${count} able nodes`, async () => {
      const nodes = await this.get<{ status: string; message?: string }[]>("/nodes");
      return nodes.filter((node) => node.status === "alive" && !node.message).length === count;
    });
  }
}

/** A workload made of the sample app that starts and stops quickly. */
export const hello = (name: string, replicas: number, more: object = {}): object => ({
  name,
  image: IMAGE,
  replicas,
  ports: [{ containerPort: 8080 }],
  stopGracePeriodSeconds: 2,
  strategy: { drainSeconds: 0 },
  ...more,
});

/** A `kube-lite dev` of its own. */
export class Sandbox {
  readonly api: Api;
  private readonly role: Role;
  private readonly directory: string;

  private constructor(role: Role, api: Api, directory: string) {
    this.role = role;
    this.api = api;
    this.directory = directory;
  }

  /** With Docker, or with containers that are only simulated: then they can be many. */
  static async start(nodes = 3, more: string[] = []): Promise<Sandbox> {
    const directory = mkdtempSync(join(tmpdir(), "kube-lite-ui-"));
    const role = new Role([
      ...["dev", "--nodes", String(nodes), "--listen", "127.0.0.1:0"],
      ...["--data-dir", directory, ...more],
    ]);
    try {
      const api = new Api(await role.announced("API at "));
      await api.able(nodes);
      return new Sandbox(role, api, directory);
    } catch (error) {
      await role.end("SIGINT");
      throw error;
    }
  }

  /** Its containers go with it. */
  async stop(): Promise<void> {
    await this.role.end("SIGINT");
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A scheduler and agents in processes of their own: the one can be killed alone. */
export class Fleet {
  readonly api: Api;
  private scheduler: Role;
  private readonly agents = new Map<string, Role>();
  private readonly directory: string;

  private constructor(scheduler: Role, api: Api, directory: string) {
    this.scheduler = scheduler;
    this.api = api;
    this.directory = directory;
  }

  private static scheduler(listen: string, directory: string): Role {
    return new Role(["scheduler", "--listen", listen, "--data-dir", join(directory, "scheduler")]);
  }

  static async start(nodes: number): Promise<Fleet> {
    const directory = mkdtempSync(join(tmpdir(), "kube-lite-ui-"));
    const scheduler = Fleet.scheduler("127.0.0.1:0", directory);
    const fleet = new Fleet(
      scheduler,
      new Api(await scheduler.announced("listens on ")),
      directory,
    );
    for (let number = 1; number <= nodes; number += 1) {
      const agent = new Role([
        ...["agent", "--scheduler", fleet.api.url, "--listen", "127.0.0.1:0"],
        ...["--node-id", `n${number}`, "--data-dir", join(directory, `n${number}`)],
      ]);
      fleet.agents.set(`n${number}`, agent);
      await agent.announced("listens on ");
    }
    await fleet.api.able(nodes);
    return fleet;
  }

  async killScheduler(): Promise<void> {
    await this.scheduler.end("SIGKILL");
  }

  /** Its containers run on. */
  async killAgent(node: string): Promise<void> {
    await this.agents.get(node)?.end("SIGKILL");
  }

  /** Again at the same address, over the same data. */
  async startScheduler(): Promise<void> {
    this.scheduler = Fleet.scheduler(new URL(this.api.url).host, this.directory);
    await this.scheduler.announced("listens on ");
  }

  async stop(): Promise<void> {
    const { cluster } = await this.api.get<{ cluster: string }>("/health");
    await Promise.all([this.scheduler, ...this.agents.values()].map((role) => role.end("SIGKILL")));
    await removeContainers(cluster);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A cluster with TLS, as an operator has it; what it runs is only simulated. */
export class SecureCluster {
  readonly url: string;
  private readonly directory: string;
  private readonly roles: Role[] = [];

  private constructor(port: number) {
    this.url = `https://127.0.0.1:${port}`;
    this.directory = mkdtempSync(join(tmpdir(), "kube-lite-ui-"));
  }

  static async start(nodes: number): Promise<SecureCluster> {
    const cluster = new SecureCluster(await freePort());
    try {
      const { host } = new URL(cluster.url);
      const data = join(cluster.directory, "scheduler");
      const where = ["--listen", host, "--data-dir", data];
      const invitation = (await cluster.run(["scheduler", "--init", ...where])).match(
        /--join (\S+)/,
      )?.[1];
      if (!invitation) throw new Error("no line for the nodes");
      const scheduler = cluster.role(["scheduler", ...where]);
      await scheduler.announced("listens on ");
      for (let number = 1; number <= nodes; number += 1) {
        const agent = cluster.role([
          ...["agent", "--join", invitation, "--listen", "127.0.0.1:0", "--node-id", `n${number}`],
          ...["--data-dir", join(cluster.directory, `n${number}`), "--runtime", "simulated"],
        ]);
        await agent.announced("listens on ");
      }
      await until("the nodes", async () => {
        const found = JSON.parse(await cluster.ctl(["nodes", "-o", "json"]));
        return (found as { status: string }[]).filter((n) => n.status === "alive").length === nodes;
      });
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  private role(args: string[]): Role {
    const role = new Role(args);
    this.roles.push(role);
    return role;
  }

  private async run(args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { stdout } = await execFile(BINARY, args, { env: { ...process.env, ...env } });
    return stdout;
  }

  private credentials(who: string): string {
    return who === "admin"
      ? join(this.directory, "scheduler", "admin.json")
      : join(this.directory, `${who}.json`);
  }

  /** What `ctl` says to somebody. */
  async ctl(args: string[], who = "admin"): Promise<string> {
    return this.run(["ctl", ...args], { KUBE_LITE_CREDENTIALS: this.credentials(who) });
  }

  /** A token for somebody; answers with its id. */
  async person(name: string, role: string): Promise<string> {
    const write = ["--write", this.credentials(name)];
    await this.ctl(["token", "create", "--role", role, "--name", name, ...write]);
    const tokens = JSON.parse(await this.ctl(["token", "list", "-o", "json"]));
    return (
      (tokens as { id: string; name: string }[]).find((token) => token.name === name)?.id ?? ""
    );
  }

  /** What `ctl dashboard` prints. */
  async link(who: string): Promise<string> {
    return (await this.ctl(["dashboard"], who)).trim();
  }

  /** What was written to logs so far. */
  output(): string {
    return this.roles.map((role) => role.output).join("");
  }

  async stop(): Promise<void> {
    await Promise.all(this.roles.map((role) => role.end("SIGKILL")));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

/** Between a page and the scheduler: it can be cut for certain. */
export class Relay {
  readonly url: string;
  /** What the scheduler said since it was mended. */
  passed = "";
  private readonly server: net.Server;
  private readonly sockets = new Set<net.Socket>();
  private whole = true;
  /** How often a page has connected. */
  connections = 0;

  private constructor(server: net.Server, to: URL) {
    this.server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on("connection", (page) => {
      if (!this.whole) {
        page.destroy();
        return;
      }
      this.connections += 1;
      const scheduler = net.connect(Number(to.port), to.hostname);
      for (const [one, other] of [
        [page, scheduler],
        [scheduler, page],
      ] as const) {
        this.sockets.add(one);
        one.once("error", () => one.destroy());
        one.once("close", () => {
          this.sockets.delete(one);
          other.end();
        });
        one.pipe(other);
      }
      scheduler.on("data", (bytes: Buffer) => {
        this.passed += bytes.toString();
      });
    });
  }

  static async start(to: string): Promise<Relay> {
    const server = net.createServer();
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    return new Relay(server, new URL(to));
  }

  /** Drops every connection, and those that come. */
  cut(): void {
    this.whole = false;
    for (const socket of this.sockets) socket.destroy();
  }

  /** Lets nothing through any more, and says so to nobody. */
  hang(): void {
    for (const socket of this.sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  mend(): void {
    this.passed = "";
    this.whole = true;
  }

  stop(): void {
    this.cut();
    this.server.close();
  }
}

// --- Docker itself ---

function dockerAddress(): http.RequestOptions {
  const host = process.env.DOCKER_HOST;
  if (host && !host.startsWith("unix://")) {
    const url = new URL(host.replace(/^tcp:/, "http:"));
    return { host: url.hostname, port: url.port || 2375 };
  }
  const given = host?.slice("unix://".length);
  const usual = existsSync("/var/run/docker.sock") ? "/var/run/docker.sock" : "/run/docker.sock";
  return { socketPath: given ?? usual };
}

/** One call of Docker's API. */
function docker(method: string, path: string): Promise<string> {
  return new Promise((done, failed) => {
    const request = http.request({ ...dockerAddress(), method, path }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.once("end", () => {
        if ((response.statusCode ?? 500) < 300) done(body);
        else failed(new Error(`Docker: ${method} ${path}: ${response.statusCode} ${body}`));
      });
    });
    request.once("error", failed).end();
  });
}

/** As `docker kill` does. */
export const dockerKill = (id: string): Promise<string> => docker("POST", `/containers/${id}/kill`);

async function removeContainers(cluster: string): Promise<void> {
  const filters = encodeURIComponent(JSON.stringify({ label: [`kube-lite.cluster=${cluster}`] }));
  const found = JSON.parse(await docker("GET", `/containers/json?all=1&filters=${filters}`));
  for (const { Id } of found as { Id: string }[]) {
    await docker("DELETE", `/containers/${Id}?force=1&v=1`).catch(() => {});
  }
}

// --- the browser ---

function chromiumPath(): string {
  const given = process.env.CHROMIUM;
  if (given) return given;
  for (const directory of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
      const path = join(directory, name);
      if (existsSync(path)) return path;
    }
  }
  throw new Error("there is no Chromium; scripts/test-tools installs it");
}

export async function startBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath(),
    // Root in a container has no user namespaces for the sandbox.
    args: process.getuid?.() === 0 ? ["--no-sandbox"] : [],
  });
}

/** A page, and all that went wrong in it. */
export interface Tab {
  page: Page;
  context: BrowserContext;
  /** Errors, violations of the policy, requests to elsewhere. */
  complaints: string[];
}

interface TabOptions {
  dark?: boolean;
  width?: number;
  height?: number;
  /** Without animations: what is half faded in has half its contrast. */
  still?: boolean;
}

export async function openTab(
  browser: Browser,
  url: string,
  options: TabOptions = {},
): Promise<Tab> {
  const context = await browser.newContext({
    viewport: { width: options.width ?? 1280, height: options.height ?? 800 },
    deviceScaleFactor: SHOTS ? 2 : 1,
    colorScheme: options.dark ? "dark" : "light",
    reducedMotion: options.still ? "reduce" : "no-preference",
    baseURL: url,
    // The authority of a cluster is its own; no browser knows it.
    ignoreHTTPSErrors: true,
    permissions: ["clipboard-read", "clipboard-write"],
    timezoneId: "UTC",
  });
  context.setDefaultTimeout(LONG_MS);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("console", (message) => {
    const text = message.text();
    if (/Content Security|Trusted Type|Warning:/i.test(text)) complaints.push(text);
  });
  page.on("request", (request) => {
    const to = request.url();
    if (!to.startsWith(url) && !to.startsWith("data:")) complaints.push(`asked elsewhere: ${to}`);
  });
  return { page, context, complaints };
}

/** Goes to a place of the page. Chromium breaks off what it loads whenever a network
 * interface comes or goes, as they do when containers start: then once more. */
export async function visit(page: Page, hash: string): Promise<void> {
  await until(
    `the page at ${hash}`,
    async () => {
      await page.goto(`/${hash}`, { timeout: 10_000 });
      await page.locator("main h1, main .empty").first().waitFor({ timeout: 5_000 });
      return true;
    },
    LONG_MS,
  );
}

/** Tests that go on from one another: when one fails, the rest would only fail too. */
export function story(): (name: string, act: () => Promise<void> | void) => void {
  let broken: string | undefined;
  return (name, act) => {
    it(name, async (test) => {
      if (broken) return test.skip(`after "${broken}" failed`);
      broken = name;
      await act();
      broken = undefined;
    });
  };
}

/** A picture for the README, where they are asked for. */
export async function shot(page: Page, name: string): Promise<void> {
  if (!SHOTS) return;
  await mkdir(SHOTS, { recursive: true });
  await page.mouse.move(0, 0);
  await page.emulateMedia({ reducedMotion: "reduce" });
  const session = await page.context().newCDPSession(page);
  const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 72 });
  await session.detach();
  await writeFile(join(SHOTS, `${name}.webp`), data, "base64");
  // The same for who looks at them here.
  if (process.env.SHOTS_PNG) await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

const axe = readFileSync(join(import.meta.dirname, "../node_modules/axe-core/axe.min.js"), "utf8");

interface Violation {
  id: string;
  help: string;
  nodes: { html: string; failureSummary: string }[];
}

/** What axe finds wrong with the page as it is. */
export async function violations(page: Page): Promise<string[]> {
  // Evaluated by the debugger, so that the page's policy stays as it is.
  await page.evaluate(`if (!window.axe) { ${axe} }`);
  const found = await page.evaluate<Violation[]>(
    "axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations)",
  );
  return found.map(({ id, help, nodes }) => {
    const first = nodes[0];
    return `${id}: ${help} (${nodes.length}×): ${first?.html} ${first?.failureSummary}`;
  });
}
