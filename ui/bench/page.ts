// How the page bears a large cluster: 200 nodes and 5,000 instances, of which 500
// change every second. A small server replays a made-up stream to the built page
// in a real Chromium; reported are the first paint, and what the main thread's CPU is spent on.
//
// node --run bench [-- --nodes 200 --instances 5000 --changes 500 --seconds 20]

import { existsSync, readdirSync, readFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Changes, ClusterState, Instance, Workload } from "../src/state/types.ts";
import { startBrowser } from "../tests/kit.ts";

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "200" },
    instances: { type: "string", default: "5000" },
    changes: { type: "string", default: "500" },
    seconds: { type: "string", default: "20" },
    shot: { type: "string" },
    serve: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const NODES = Number(values.nodes);
const INSTANCES = Number(values.instances);
const CHANGES = Number(values.changes);
const SECONDS = Number(values.seconds);
const PER_WORKLOAD = 100;
const PACE_MS = 100;
const DIST = join(import.meta.dirname, "../dist");

// --- a made-up cluster ---

let seed = 1;
/** The same numbers in every run. */
function draw(below: number): number {
  seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
  return Math.floor((seed / 2 ** 32) * below);
}

function instance(number: number, life: number): Instance {
  const workload = Math.floor(number / PER_WORKLOAD);
  return {
    id: `app-${workload}-r1-${(number * 1000 + life).toString(36)}`,
    containerId: number.toString(16).padStart(64, "0"),
    workloadId: `app-${workload}`,
    replica: number % PER_WORKLOAD,
    revision: 1,
    nodeId: `node-${(number % NODES) + 1}`,
    image: "registry.example.com/team/app:1.2.3",
    phase: "running",
    health: "healthy",
    ready: true,
    ip: "172.17.0.2",
    ports: [{ containerPort: 8080, hostPort: 30_000 + (number % 30_000), protocol: "tcp" }],
    restarts: life,
    startedAt: "2026-11-22T10:00:00Z",
    runningForMs: 60_000 + number,
  };
}

const all = Array.from({ length: INSTANCES }, (_, number) => instance(number, 0));

function workload(index: number): Workload {
  const of = all.slice(index * PER_WORKLOAD, (index + 1) * PER_WORKLOAD);
  const ready = of.filter((one) => one.ready).length;
  const pending = of.filter((one) => one.phase !== "running").length;
  return {
    spec: { name: `app-${index}`, image: "registry.example.com/team/app:1.2.3" },
    ...{ revision: 1, desired: of.length, running: of.length - pending, ready, pending },
    ...{ waiting: 0, done: 0, stopping: 0, restarts: 0, rollout: null },
    reasons: ready < of.length ? [{ reason: "Starting", message: "its container starts" }] : [],
  };
}

const WORKLOADS = Math.ceil(INSTANCES / PER_WORKLOAD);

const state = (): ClusterState => ({
  ...{ cluster: "bench", epoch: 1, version: "0.1.0", resumed: false },
  instancesTotal: INSTANCES,
  nodes: Array.from({ length: NODES }, (_, index) => ({
    ...{ id: `node-${index + 1}`, address: `10.0.0.${index % 250}:8081`, status: "alive" as const },
    ...{ schedulable: true, lastHeartbeatSecondsAgo: 1, version: "0.1.0" },
    instances: Math.round(INSTANCES / NODES),
    docker: { state: "ok" as const, forMs: 1 },
  })),
  workloads: Array.from({ length: WORKLOADS }, (_, index) => workload(index)),
  instances: all,
  events: [],
});

/** Each change is one step of a crash and its recovery: ended, coming up, ready. */
function step(count: number, seq: number): Changes {
  const changed = new Map<number, Instance>();
  const gone: string[] = [];
  while (changed.size < count) {
    const number = draw(INSTANCES);
    const one = all[number];
    if (!one || changed.has(number)) continue;
    let next: Instance;
    if (one.phase === "running") {
      gone.push(one.id);
      next = { ...instance(number, one.restarts + 1), phase: "pending", health: "unknown" };
      next = { ...next, ready: false, reason: "Starting", message: "its container starts" };
    } else {
      next = instance(number, one.restarts);
    }
    all[number] = next;
    changed.set(number, next);
  }
  const touched = new Set([...changed.keys()].map((number) => Math.floor(number / PER_WORKLOAD)));
  return {
    instances: [...changed.values()],
    instancesGone: gone,
    workloads: [...touched].map(workload),
    heard: Array.from({ length: Math.ceil(NODES / 30) }, () => `node-${draw(NODES) + 1}`),
    events: [...changed.values()].map((one, index) => ({
      ...{ seq: seq + index, at: new Date().toISOString(), kind: "InstanceReady" },
      ...{ workload: one.workloadId, node: one.nodeId, instance: one.id },
      message: `${one.id} on ${one.nodeId} is ready`,
    })),
  };
}

// --- a server that tells of it ---

const TYPES: Record<string, string> = {
  html: "text/html",
  js: "text/javascript",
  css: "text/css",
  svg: "image/svg+xml",
};

const server = http.createServer((request, response) => {
  const path = request.url?.split("?")[0] ?? "/";
  if (path === "/stream") {
    void replay(response);
    return;
  }
  if (path === "/session") {
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ name: "", role: "admin", signedIn: false }));
    return;
  }
  if (path === "/empty") {
    response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><p>nothing</p>");
    return;
  }
  const file = path === "/" ? "index.html" : path.slice(1);
  const known = readdirSync(DIST, { recursive: true }).map(String);
  if (!known.includes(`${file}.gz`)) {
    response.writeHead(404).end();
    return;
  }
  const type = TYPES[file.slice(file.lastIndexOf(".") + 1)] ?? "";
  response.writeHead(200, { "content-type": type, "content-encoding": "gzip" });
  response.end(readFileSync(join(DIST, `${file}.gz`)));
});

async function replay(response: http.ServerResponse): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  const say = (name: string, value: object) =>
    response.write(`event: ${name}\ndata: ${JSON.stringify(value)}\n\n`);
  say("state", state());
  let seq = 1;
  const began = performance.now();
  for (let round = 1; !response.closed; round += 1) {
    await sleep(Math.max(0, began + round * PACE_MS - performance.now()));
    const count = Math.round((CHANGES * PACE_MS) / 1000);
    say("changes", step(count, seq));
    seq += count;
  }
}

// --- and a browser that looks ---

interface Seen {
  paint: number;
  tiles: number;
}

/** An event of Chromium's own trace; times in microseconds, `tdur` of CPU. */
interface Traced {
  name: string;
  ph: string;
  pid: number;
  tid: number;
  ts: number;
  dur?: number;
  tdur?: number;
  args: { name?: string };
}

/** What the trace calls what a browser does with a page, in its words. */
const WORK: Record<string, string> = {
  FunctionCall: "script",
  EventDispatch: "script",
  FireAnimationFrame: "script",
  UpdateLayoutTree: "style",
  Layout: "layout",
  PrePaint: "paint",
  Paint: "paint",
  Layerize: "paint",
  Commit: "paint",
  MinorGC: "garbage",
  MajorGC: "garbage",
  HitTest: "input",
  IntersectionObserverController: "intersections",
};

/** What the page's main thread did, by its own CPU time: other work of the machine
 * makes tasks longer, but not these. */
function work(trace: Traced[], seconds: number) {
  const busiest = new Map<string, number>();
  for (const event of trace) {
    if (event.name !== "RunTask" || event.tdur === undefined) continue;
    const key = `${event.pid} ${event.tid}`;
    busiest.set(key, (busiest.get(key) ?? 0) + event.tdur);
  }
  const mains = new Set(
    trace
      .filter((event) => event.name === "thread_name" && event.args.name === "CrRendererMain")
      .map((event) => `${event.pid} ${event.tid}`),
  );
  const [thread] =
    [...busiest].filter(([key]) => mains.has(key)).sort((a, b) => b[1] - a[1])[0] ?? [];
  if (!thread) throw new Error("no main thread in the trace");
  const tasks: number[] = [];
  const walls: number[] = [];
  const parts: Record<string, number> = {};
  for (const event of trace) {
    if (`${event.pid} ${event.tid}` !== thread || event.ph !== "X") continue;
    const ms = (event.tdur ?? 0) / 1000;
    if (event.name === "RunTask") {
      tasks.push(ms);
      walls.push((event.dur ?? 0) / 1000);
    } else {
      const part = WORK[event.name];
      if (part) parts[part] = (parts[part] ?? 0) + ms;
    }
  }
  const share = (ms: number) => Math.round(ms / seconds / 10);
  return {
    longestTaskCpuMs: Math.round(Math.max(0, ...tasks)),
    longestTaskWallMs: Math.round(Math.max(0, ...walls)),
    tasksOver100MsCpu: tasks.filter((ms) => ms > 100).length,
    tasksOver50MsCpu: tasks.filter((ms) => ms > 50).length,
    mainThreadPercent: share(tasks.reduce((sum, ms) => sum + ms, 0)),
    ofWhichPercent: Object.fromEntries(
      Object.entries(parts).map(([part, ms]) => [part, share(ms)]),
    ),
  };
}

async function look(): Promise<void> {
  if (!existsSync(join(DIST, "index.html.gz"))) throw new Error("build the page first: make ui");
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const browser = await startBrowser();
  try {
    const page = await browser.newPage({ viewport: { width: 1440, height: 900 } });
    await page.addInitScript(() => {
      const seen = { paint: 0, tiles: 0 };
      Object.assign(window, { seen });
      new PerformanceObserver((list) => {
        for (const entry of list.getEntriesByName("first-contentful-paint")) {
          seen.paint = entry.startTime;
        }
      }).observe({ type: "paint", buffered: true });
      const frame = () => {
        if (document.querySelector("[data-node] .tile")) seen.tiles = performance.now();
        else requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    });
    // The floor: what this browser and this machine take for a page that does nothing.
    const empty: number[] = [];
    for (let turn = 0; turn < 3; turn += 1) {
      await page.goto(`http://127.0.0.1:${port}/empty`);
      await page.waitForFunction("window.seen.paint > 0");
      empty.push(await page.evaluate<number>("window.seen.paint"));
    }
    empty.sort((a, b) => a - b);
    const during = async (seconds: number, act: () => Promise<unknown>) => {
      await browser.startTracing(page, {
        categories: ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"],
      });
      await act();
      const { traceEvents } = JSON.parse((await browser.stopTracing()).toString());
      return work(traceEvents as Traced[], seconds);
    };
    const start = await during(3, async () => {
      await page.goto(`http://127.0.0.1:${port}/`);
      await page.locator("[data-node] .tile").first().waitFor();
      await sleep(2000);
    });
    const seen = await page.evaluate<Seen>("structuredClone(window.seen)");
    const half = SECONDS / 2;
    const resting = await during(half, () => sleep(half * 1000));
    if (values.shot) await page.screenshot({ path: values.shot });
    const scrolling = await during(half, async () => {
      const end = performance.now() + half * 1000;
      for (let turn = 0; performance.now() < end; turn += 1) {
        await page.mouse.wheel(0, Math.floor(turn / 40) % 2 === 0 ? 400 : -400);
        await sleep(50);
      }
    });
    const report = {
      nodes: NODES,
      instances: INSTANCES,
      changesPerSecond: CHANGES,
      emptyPagePaintMs: Math.round(empty[1] ?? 0),
      firstContentfulPaintMs: Math.round(seen.paint),
      firstTilesMs: Math.round(seen.tiles),
      start,
      resting,
      scrolling,
    };
    console.log(JSON.stringify(report, undefined, values.json ? 0 : 2));
  } finally {
    await browser.close();
    server.close();
    server.closeAllConnections();
  }
}

// `--serve PORT`: to look at it oneself.
if (values.serve) server.listen(Number(values.serve), "127.0.0.1");
else await look();
