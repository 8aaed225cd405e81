// How the page bears a large cluster: 200 nodes and 5,000 instances, of which 500
// change every second. A small server replays a made-up stream to the built page
// in a real Chromium; reported are the first paint and the long tasks.
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
  tasks: number[];
  frames: number;
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
      const seen = { paint: 0, tiles: 0, tasks: [] as number[], frames: 0 };
      Object.assign(window, { seen });
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) seen.tasks.push(entry.duration);
      }).observe({ type: "longtask", buffered: true });
      new PerformanceObserver((list) => {
        for (const entry of list.getEntriesByName("first-contentful-paint")) {
          seen.paint = entry.startTime;
        }
      }).observe({ type: "paint", buffered: true });
      const frame = () => {
        seen.frames += 1;
        if (seen.tiles === 0 && document.querySelector("[data-node] .tile")) {
          seen.tiles = performance.now();
        }
        requestAnimationFrame(frame);
      };
      requestAnimationFrame(frame);
    });
    await page.goto(`http://127.0.0.1:${port}/`);
    await page.locator("[data-node] .tile").first().waitFor();
    await sleep(1000);
    const read = () => page.evaluate<Seen>("structuredClone(window.seen)");
    const first = await read();
    // Half of the time at rest, half of it scrolling through all nodes.
    await sleep((SECONDS * 1000) / 2);
    if (values.shot) await page.screenshot({ path: values.shot });
    const resting = await read();
    const end = performance.now() + (SECONDS * 1000) / 2;
    for (let turn = 0; performance.now() < end; turn += 1) {
      await page.mouse.wheel(0, Math.floor(turn / 40) % 2 === 0 ? 400 : -400);
      await sleep(50);
    }
    const last = await read();
    const longest = (tasks: number[]) => Math.round(Math.max(0, ...tasks));
    const report = {
      nodes: NODES,
      instances: INSTANCES,
      changesPerSecond: CHANGES,
      firstContentfulPaintMs: Math.round(first.paint),
      firstTilesMs: Math.round(first.tiles),
      longestTaskAtStartMs: longest(first.tasks),
      longestTaskMs: longest(resting.tasks.slice(first.tasks.length)),
      longestTaskScrollingMs: longest(last.tasks.slice(resting.tasks.length)),
      tasksOver50Ms: last.tasks.length - first.tasks.length,
      framesPerSecond: Math.round((last.frames - first.frames) / SECONDS),
    };
    if (values.json) console.log(JSON.stringify(report));
    else console.table(report);
  } finally {
    await browser.close();
    server.close();
    server.closeAllConnections();
  }
}

// `--serve PORT`: to look at it oneself.
if (values.serve) server.listen(Number(values.serve), "127.0.0.1");
else await look();
