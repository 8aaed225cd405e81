// A rollout's steps, those of one wave taken together.

import type { ClusterEvent } from "../state/types.ts";

/** One step by itself, or how many of each kind came together. */
export type Step =
  | { event: ClusterEvent }
  | {
      /** Of its first step. */
      seq: number;
      from: string;
      to: string;
      started: number;
      ready: number;
      stopped: number;
    };

const KINDS = /^(Rollout|InstanceOrdered$|InstanceStopping$|InstanceReady$)/;
/** What comes so soon after another belongs together. */
const GAP_MS = 1_000;
/** Where one follows upon another without a pause, a row tells of so long. */
const LONGEST_MS = 5_000;

/** The steps since the rollout began, in order: one by one, or by waves. */
export function stepsOf(events: readonly ClusterEvent[], byWaves: boolean): Step[] {
  const start = events.findLastIndex((event) => event.kind === "RolloutStarted");
  const its = events.slice(Math.max(0, start)).filter((event) => KINDS.test(event.kind));
  if (!byWaves) return its.map((event) => ({ event }));
  const steps: Step[] = [];
  let wave: ClusterEvent[] = [];
  const close = () => {
    const [first, ...more] = wave;
    if (first) steps.push(more.length === 0 ? { event: first } : told(first, wave));
    wave = [];
  };
  for (const event of its) {
    const at = Date.parse(event.at);
    const begun = Date.parse(wave[0]?.at ?? event.at);
    const before = Date.parse(wave.at(-1)?.at ?? event.at);
    const alone = event.kind.startsWith("Rollout");
    if (alone || at - before > GAP_MS || at - begun > LONGEST_MS) close();
    wave.push(event);
    if (alone) close();
  }
  close();
  return steps;
}

function told(first: ClusterEvent, wave: readonly ClusterEvent[]): Step {
  const many = (kind: string) => wave.filter((event) => event.kind === kind).length;
  return {
    seq: first.seq,
    from: first.at,
    to: wave.at(-1)?.at ?? first.at,
    started: many("InstanceOrdered"),
    ready: many("InstanceReady"),
    stopped: many("InstanceStopping"),
  };
}

/** A wave in words. */
export function waveWords({ started, ready, stopped }: Exclude<Step, { event: unknown }>): string {
  const parts: string[] = [];
  if (started > 0) parts.push(`${started} started`);
  if (ready > 0) parts.push(`${ready} became ready`);
  if (stopped > 0) parts.push(`${stopped} told to stop`);
  return parts.join(", ");
}
