// The store, for components.

import { useCallback, useEffect, useRef, useState, useSyncExternalStore } from "react";
import { type Connection, type Point, Store, type Totals } from "./store.ts";
import type { ClusterEvent, ClusterNode, Instance, Workload } from "./types.ts";

export const store = new Store();

function useTopic<T>(topic: string, read: () => T): T {
  const subscribe = useCallback(
    (listener: () => void) => store.subscribe(topic, listener),
    [topic],
  );
  return useSyncExternalStore(subscribe, read);
}

export const useLoaded = (): boolean => useTopic("loaded", store.isLoaded);
export const useConnection = (): Connection => useTopic("connection", () => store.connection);
export const useConnectionWhy = (): string | undefined =>
  useTopic("connection", () => store.connectionWhy);
export const useTotals = (): Totals => useTopic("totals", store.totals);
export const useNodeIds = (): readonly string[] => useTopic("nodes", store.nodeIds);
export const useWorkloadNames = (): readonly string[] => useTopic("workloads", store.workloadNames);
export const useWorkloadsByNeed = (): readonly string[] => useTopic("need", store.workloadsByNeed);
export const useEvents = (): readonly ClusterEvent[] => useTopic("events", () => store.events);

export const useNode = (id: string): ClusterNode | undefined =>
  useTopic(`node:${id}`, () => store.node(id));
export const useWorkload = (name: string): Workload | undefined =>
  useTopic(`workload:${name}`, () => store.workload(name));
export const useInstance = (id: string): Instance | undefined =>
  useTopic(`instance:${id}`, () => store.instance(id));
export const useInstancesOfNode = (id: string): readonly Instance[] =>
  useTopic(`node-instances:${id}`, () => store.instancesOfNode(id));
export const useInstancesOfWorkload = (name: string): readonly Instance[] =>
  useTopic(`workload-instances:${name}`, () => store.instancesOfWorkload(name));
export const usePoints = (key: string): readonly Point[] =>
  useTopic(`series:${key}`, () => store.points(key));
export const useHeard = (id: string): number | undefined =>
  useTopic(`pulse:${id}`, () => store.heard(id));

// --- time that passes ---

const ticks = new Set<() => void>();
let second = Math.floor(Date.now() / 1000);
let clock: ReturnType<typeof setInterval> | undefined;

function onTick(listener: () => void): () => void {
  ticks.add(listener);
  clock ??= setInterval(() => {
    second = Math.floor(Date.now() / 1000);
    for (const tick of ticks) tick();
  }, 1000);
  return () => {
    ticks.delete(listener);
    if (ticks.size === 0) {
      clearInterval(clock);
      clock = undefined;
    }
  };
}

/** Shows what uses it anew every second. */
export const useSecond = (): number => useSyncExternalStore(onTick, () => second);

/** What changes oftener than anybody reads: at once, but not again so soon. */
const CALM_MS = 500;

/** The same value, at most twice a second another one. */
export function useCalm<T>(value: T): T {
  const [shown, setShown] = useState(value);
  const changedAt = useRef(Number.NEGATIVE_INFINITY);
  useEffect(() => {
    const left = changedAt.current + CALM_MS - performance.now();
    const change = () => {
      changedAt.current = performance.now();
      setShown(value);
    };
    const timer = setTimeout(change, Math.max(0, left));
    return () => clearTimeout(timer);
  }, [value]);
  return shown;
}
