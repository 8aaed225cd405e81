// What the page knows. One mutable picture, changed by the stream, and topics to
// which components subscribe: a change wakes only those that show what changed.

import { isOpen } from "../lib/look.ts";
import type {
  Changes,
  ClusterEvent,
  ClusterNode,
  ClusterState,
  Instance,
  Workload,
} from "./types.ts";

/** Signed out: the scheduler is there, and wants to know who looks. Refused: it is there, and
 * does not let this page see anything. */
export type Connection = "connecting" | "live" | "stale" | "signed-out" | "refused";

/** Desired and ready at a time, for the charts. */
export interface Point {
  at: number;
  desired: number;
  ready: number;
}

export interface Totals {
  nodes: number;
  alive: number;
  workloads: number;
  desired: number;
  ready: number;
  done: number;
  short: number;
  /** Not finished. */
  rollouts: number;
}

const EVENTS_KEPT = 5_000;
const CHART_SPAN_MS = 10 * 60_000;
const POINTS_KEPT = 600;
const NOTHING: readonly never[] = [];

/** Key of the chart of the whole cluster; no workload can have this name. */
export const WHOLE = "*";

export class Store {
  connection: Connection = "connecting";
  /** What the scheduler says to that, if it says why. */
  connectionWhy: string | undefined;
  /** When the scheduler was last heard; page time, milliseconds. */
  private lastHeard = performance.now();
  cluster = "";
  epoch = 0;
  version = "";
  /** When the stream began: how many there were, and how many of them the page was told of. */
  instancesTotal = 0;
  instancesTold = 0;
  events: readonly ClusterEvent[] = NOTHING;
  eventsMissed = false;
  /** The last event that was heard of; where the stream goes on. */
  lastEvent: number | undefined;

  private nodes = new Map<string, ClusterNode>();
  private workloads = new Map<string, Workload>();
  private instances = new Map<string, Instance>();
  private ofNode = new Map<string, Set<string>>();
  private ofWorkload = new Map<string, Set<string>>();
  private heardAt = new Map<string, number>();
  private receivedAt = new WeakMap<object, number>();
  private series = new Map<string, Point[]>();
  private loaded = false;

  // --- reading: each answer keeps its identity until it changes ---

  private cache = new Map<string, unknown>();

  private cached<T>(topic: string, make: () => T): T {
    if (!this.cache.has(topic)) this.cache.set(topic, make());
    return this.cache.get(topic) as T;
  }

  isLoaded = (): boolean => this.loaded;
  node = (id: string): ClusterNode | undefined => this.nodes.get(id);
  workload = (name: string): Workload | undefined => this.workloads.get(name);
  instance = (id: string): Instance | undefined => this.instances.get(id);

  nodeIds = (): readonly string[] =>
    this.cached("nodes", () => [...this.nodes.keys()].sort(byName.compare));

  workloadNames = (): readonly string[] =>
    this.cached("workloads", () => [...this.workloads.keys()].sort(byName.compare));

  /** By name, but those that are not as wanted first. */
  workloadsByNeed = (): readonly string[] =>
    this.cached("need", () => {
      const names = this.workloadNames();
      const isShort = (name: string) => {
        const known = this.workloads.get(name);
        return known !== undefined && known.ready + known.done < known.desired;
      };
      const inNeed = [...names.filter(isShort), ...names.filter((name) => !isShort(name))];
      const same = inNeed.length === this.need.length && inNeed.every((n, i) => n === this.need[i]);
      if (!same) this.need = inNeed;
      return this.need;
    });

  private need: readonly string[] = NOTHING;

  instancesOfNode = (id: string): readonly Instance[] =>
    this.cached(`node-instances:${id}`, () => this.sorted(this.ofNode.get(id)));

  instancesOfWorkload = (name: string): readonly Instance[] =>
    this.cached(`workload-instances:${name}`, () => this.sorted(this.ofWorkload.get(name)));

  totals = (): Totals =>
    this.cached("totals", () => {
      const totals: Totals = {
        ...{ nodes: 0, alive: 0, workloads: 0, desired: 0, ready: 0, done: 0, short: 0 },
        rollouts: 0,
      };
      for (const node of this.nodes.values()) {
        totals.nodes += 1;
        if (node.status === "alive") totals.alive += 1;
      }
      for (const workload of this.workloads.values()) {
        totals.workloads += 1;
        totals.desired += workload.desired;
        totals.ready += workload.ready;
        totals.done += workload.done;
        if (isOpen(workload.rollout)) totals.rollouts += 1;
        totals.short += Math.max(0, workload.desired - workload.ready - workload.done);
      }
      return totals;
    });

  points = (key: string): readonly Point[] =>
    this.cached(`series:${key}`, () => [...(this.series.get(key) ?? NOTHING)]);

  /** When a node was last heard, page time; undefined: never. */
  heard = (id: string): number | undefined => this.heardAt.get(id);

  /** How long an instance has been running by now, milliseconds. */
  runningFor(instance: Instance): number | undefined {
    if (instance.runningForMs === undefined) return undefined;
    const over = instance.phase === "exited" || instance.phase === "failed";
    const since = this.receivedAt.get(instance) ?? performance.now();
    return instance.runningForMs + (over ? 0 : performance.now() - since);
  }

  private sorted(ids: Set<string> | undefined): readonly Instance[] {
    if (!ids || ids.size === 0) return NOTHING;
    const all: Instance[] = [];
    for (const id of ids) {
      const instance = this.instances.get(id);
      if (instance) all.push(instance);
    }
    return all.sort(inOrder);
  }

  // --- changing ---

  replace(state: ClusterState): void {
    this.cluster = state.cluster;
    this.epoch = state.epoch;
    this.version = state.version;
    this.instancesTotal = state.instancesTotal;
    this.instancesTold = state.instances.length;
    const known = [...this.nodes.keys()].filter((id) => !state.nodes.some((n) => n.id === id));
    const names = new Set(state.workloads.map((workload) => workload.spec.name));
    const ids = new Set(state.instances.map((instance) => instance.id));
    const resumed = state.resumed && this.events.length > 0;
    if (!resumed) {
      this.events = NOTHING;
      this.eventsMissed = false;
    }
    this.apply({
      ...state,
      nodesGone: known,
      workloadsGone: [...this.workloads.keys()].filter((name) => !names.has(name)),
      instancesGone: [...this.instances.keys()].filter((id) => !ids.has(id)),
      eventsMissed: false,
    });
    this.loaded = true;
    for (const node of state.nodes) {
      const seconds = node.lastHeartbeatSecondsAgo;
      if (seconds === null) this.heardAt.delete(node.id);
      else this.heardAt.set(node.id, performance.now() - seconds * 1000);
    }
    this.touch("loaded");
    this.touch("events");
  }

  apply(changes: Changes): void {
    const now = performance.now();
    for (const id of changes.nodesGone ?? NOTHING) {
      this.nodes.delete(id);
      this.touch("nodes", "totals", `node:${id}`);
    }
    for (const node of changes.nodes ?? NOTHING) {
      const before = this.nodes.get(node.id);
      if (!before) this.touch("nodes");
      if (before?.status !== node.status) this.touch("totals");
      this.nodes.set(node.id, node);
      this.touch(`node:${node.id}`);
    }
    for (const id of changes.heard ?? NOTHING) {
      this.heardAt.set(id, now);
      this.touch(`pulse:${id}`);
    }
    for (const name of changes.workloadsGone ?? NOTHING) {
      this.workloads.delete(name);
      this.series.delete(name);
      this.touch("workloads", "need", "totals", `workload:${name}`, `series:${name}`);
    }
    for (const workload of changes.workloads ?? NOTHING) {
      const { name } = workload.spec;
      if (!this.workloads.has(name)) this.touch("workloads", "need");
      this.workloads.set(name, workload);
      this.receivedAt.set(workload, now);
      this.touch("totals", "need", `workload:${name}`);
      this.plot(name, workload.desired, workload.ready + workload.done);
    }
    for (const id of changes.instancesGone ?? NOTHING) this.forget(id);
    for (const instance of changes.instances ?? NOTHING) {
      this.instances.set(instance.id, instance);
      this.receivedAt.set(instance, now);
      add(this.ofNode, instance.nodeId, instance.id);
      add(this.ofWorkload, instance.workloadId, instance.id);
      this.touchInstance(instance);
    }
    if (changes.workloads?.length || changes.workloadsGone?.length) {
      const { desired, ready, done } = this.freshTotals();
      this.plot(WHOLE, desired, ready + done);
    }
    this.take(changes.events ?? NOTHING, changes.eventsMissed === true);
    this.wake();
  }

  /** The scheduler has just spoken. */
  hear(): void {
    this.lastHeard = performance.now();
  }

  /** The time of which something is known: when the scheduler was last heard, page time. */
  knownUntil = (): number => this.lastHeard;

  setConnection(connection: Connection, why?: string): void {
    if (this.connection === connection && this.connectionWhy === why) return;
    this.connection = connection;
    this.connectionWhy = why;
    this.touch("connection");
    this.wake();
  }

  /** How long ago the scheduler said this, milliseconds. */
  age(value: object): number {
    return performance.now() - (this.receivedAt.get(value) ?? performance.now());
  }

  private freshTotals(): Totals {
    this.cache.delete("totals");
    return this.totals();
  }

  private forget(id: string): void {
    const instance = this.instances.get(id);
    if (!instance) return;
    this.instances.delete(id);
    this.ofNode.get(instance.nodeId)?.delete(id);
    this.ofWorkload.get(instance.workloadId)?.delete(id);
    this.touchInstance(instance);
  }

  private touchInstance({ id, nodeId, workloadId }: Instance): void {
    this.touch(`instance:${id}`, `node-instances:${nodeId}`, `workload-instances:${workloadId}`);
  }

  private take(events: readonly ClusterEvent[], missed: boolean): void {
    const last = events.at(-1);
    if (last) this.lastEvent = last.seq;
    if (missed) this.eventsMissed = true;
    if (!last && !missed) return;
    const first = events[0]?.seq ?? Number.POSITIVE_INFINITY;
    const before = this.events.filter((event) => event.seq < first);
    this.events = [...before, ...events].slice(-EVENTS_KEPT);
    this.touch("events");
  }

  private plot(key: string, desired: number, ready: number): void {
    const now = Date.now();
    let points = this.series.get(key);
    if (!points) {
      points = [];
      this.series.set(key, points);
    }
    const last = points.at(-1);
    if (last && last.desired === desired && last.ready === ready) return;
    points.push({ at: now, desired, ready });
    while ((points[1]?.at ?? now) < now - CHART_SPAN_MS) points.shift();
    if (points.length > POINTS_KEPT) this.series.set(key, thinned(points));
    this.touch(`series:${key}`);
  }

  // --- telling ---

  private listeners = new Map<string, Set<() => void>>();
  private dirty = new Set<string>();
  private frame = 0;

  subscribe(topic: string, listener: () => void): () => void {
    let those = this.listeners.get(topic);
    if (!those) {
      those = new Set();
      this.listeners.set(topic, those);
    }
    those.add(listener);
    return () => {
      those.delete(listener);
      if (those.size === 0) this.listeners.delete(topic);
    };
  }

  private touch(...topics: string[]): void {
    for (const topic of topics) {
      this.cache.delete(topic);
      this.dirty.add(topic);
    }
  }

  /** Once per frame, however much arrives between two. */
  private wake(): void {
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const topics = [...this.dirty];
      this.dirty.clear();
      const due = new Set<() => void>();
      for (const topic of topics) {
        for (const listener of this.listeners.get(topic) ?? NOTHING) due.add(listener);
      }
      for (const listener of due) listener();
    });
  }
}

/** With fewer points in its older half: of two, the one with fewer ready, which says more. */
export function thinned(points: readonly Point[]): Point[] {
  const half = Math.floor(points.length / 2);
  const left: Point[] = [];
  for (let at = 0; at < half; at += 2) {
    const [one, other] = [points[at], at + 1 < half ? points[at + 1] : undefined];
    if (one) left.push(other && other.ready < one.ready ? { ...other, at: one.at } : one);
  }
  return [...left, ...points.slice(half)];
}

function add(index: Map<string, Set<string>>, key: string, id: string): void {
  const ids = index.get(key);
  if (ids) ids.add(id);
  else index.set(key, new Set([id]));
}

/** node-2 before node-10. */
export const byName = new Intl.Collator("en", { numeric: true });

function inOrder(a: Instance, b: Instance): number {
  return (
    (a.workloadId < b.workloadId ? -1 : a.workloadId > b.workloadId ? 1 : 0) ||
    a.replica - b.replica ||
    a.revision - b.revision ||
    (a.id < b.id ? -1 : 1)
  );
}
