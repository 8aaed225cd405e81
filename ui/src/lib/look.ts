// How an instance looks: one word that decides its colour and its shape.

import type { Instance, Rollout, Why, Workload } from "../state/types.ts";

export type Look =
  | "ready"
  | "starting"
  | "pending"
  | "unhealthy"
  | "stopping"
  | "lost"
  | "failed"
  | "done";

export const LOOKS: readonly { look: Look; words: string; meaning: string }[] = [
  { look: "ready", words: "ready", meaning: "runs, and is healthy" },
  { look: "starting", words: "starting", meaning: "runs, not ready yet" },
  { look: "pending", words: "coming up", meaning: "ordered, pulled or created" },
  { look: "unhealthy", words: "unhealthy", meaning: "its probe fails" },
  { look: "stopping", words: "stopping", meaning: "on its way out" },
  { look: "lost", words: "lost", meaning: "its node is not heard" },
  { look: "failed", words: "ended", meaning: "failed; kept for its log" },
  { look: "done", words: "done", meaning: "finished with success" },
];

export function lookOf(instance: Instance): Look {
  if (instance.phase === "exited" && instance.exitCode === 0) return "done";
  if (isOver(instance)) return "failed";
  if (instance.lost) return "lost";
  if (instance.stopping) return "stopping";
  if (instance.phase !== "running") return "pending";
  if (instance.ready) return "ready";
  return instance.health === "unhealthy" ? "unhealthy" : "starting";
}

export const isOver = (instance: Instance): boolean =>
  instance.phase === "exited" || instance.phase === "failed";

/** The state in a word or two, as in `ctl instances`. */
export function stateOf(instance: Instance): string {
  const look = lookOf(instance);
  if (look === "failed") {
    return instance.exitCode === undefined ? "failed" : `exited ${instance.exitCode}`;
  }
  if (look === "done") return "exited 0";
  if (look === "pending") return instance.phase;
  return look;
}

/** The whole truth about an instance in one sentence. */
export function sentenceOf(instance: Instance): string {
  const { id, nodeId, message } = instance;
  const why = message ? `: ${message}` : "";
  return `${id} on ${nodeId}, revision ${instance.revision}, ${stateOf(instance)}${why}`;
}

/** Whether a workload is as wanted, and if not, how it is wrong. */
export type Standing = "good" | "moving" | "bad";

const HARMLESS = new Set([
  "Ordered",
  "Queued",
  "Prepared",
  "Pulling",
  "Starting",
  "HealthStarting",
  "MinReady",
  "Stopping",
  "WaitingForStops",
  "Recovering",
]);

/** Whether a rollout has not come to its end: it goes on, goes back, or waits for a person. */
export const isOpen = (rollout: Rollout | null): rollout is Rollout =>
  rollout !== null && rollout.state !== "done" && rollout.state !== "aborted";

export function standingOf(workload: Workload): Standing {
  const short = workload.ready + workload.done < workload.desired;
  if (short && workload.reasons.some((why) => !HARMLESS.has(why.reason))) return "bad";
  const moving = isOpen(workload.rollout) || workload.pending > 0 || workload.stopping > 0;
  return short || moving ? "moving" : "good";
}

/** The reason that says most: not that something is merely on its way. */
export const worstOf = (reasons: readonly Why[]): Why | undefined =>
  reasons.find((why) => !HARMLESS.has(why.reason)) ?? reasons[0];

/** One of the places a workload wants filled, and what is in it. */
export interface Slot {
  replica: number;
  instances: Instance[];
  /** Filled by success: nothing runs there any more. */
  done: boolean;
  /** Why there is nothing. */
  why?: Why;
}

/** The places of a workload in order, each with what is in it. */
export function slotsOf(workload: Workload, instances: readonly Instance[]): Slot[] {
  const slots = new Map<number, Slot>();
  const slot = (replica: number): Slot => {
    let found = slots.get(replica);
    if (!found) {
      found = { replica, instances: [], done: false };
      slots.set(replica, found);
    }
    return found;
  };
  for (const instance of instances) {
    if (!isOver(instance) && !(instance.stopping && instance.revision === workload.revision)) {
      slot(instance.replica).instances.push(instance);
    }
  }
  for (const why of workload.reasons) {
    if (why.replica !== undefined) slot(why.replica).why = why;
  }
  if (workload.done > 0) {
    for (const instance of instances) {
      const over = isOver(instance) && instance.revision === workload.revision;
      if (over && !slots.has(instance.replica)) slot(instance.replica).done = true;
    }
  }
  for (let replica = 0; slots.size < workload.desired; replica += 1) slot(replica);
  return [...slots.values()].sort((a, b) => a.replica - b.replica);
}

/** How many are how: where there are too many to be shown one by one. */
export interface Part {
  part: Look | "old" | "missing";
  many: number;
}

const PARTS = [
  "ready",
  "old",
  "done",
  "starting",
  "unhealthy",
  "pending",
  "lost",
  "stopping",
] as const;

export function partsOf(workload: Workload, instances: readonly Instance[]): Part[] {
  const counts = new Map<Part["part"], number>([["done", workload.done]]);
  for (const instance of instances) {
    if (isOver(instance)) continue;
    const look = lookOf(instance);
    const part = look === "ready" && instance.revision !== workload.revision ? "old" : look;
    counts.set(part, (counts.get(part) ?? 0) + 1);
  }
  const parts: Part[] = PARTS.map((part) => ({ part, many: counts.get(part) ?? 0 }));
  const there = parts.reduce((sum, { part, many }) => sum + (part === "stopping" ? 0 : many), 0);
  parts.push({ part: "missing", many: Math.max(0, workload.desired - there) });
  return parts.filter(({ many }) => many > 0);
}
