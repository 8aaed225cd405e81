// What was decided and why, newest first.

import { memo, useMemo } from "react";
import { clock, count } from "../lib/format.ts";
import { link } from "../lib/router.ts";
import type { ClusterEvent } from "../state/types.ts";

type Tone = "bad" | "good" | "act" | "plain";

const TONES: readonly [RegExp, Tone][] = [
  [/^(MassNodeLossOver|NodeBack|NodeReachable|NodeUncordoned)$/, "good"],
  [
    /Failed|Exited|Dead|Unhealthy|Abort|Refus|Loss|Unreach|Unavail|Removed|Taken|SchedulerPaused/,
    "bad",
  ],
  [/Ready|Healthy|Done|Alive|Gone|Registered|Recovered/, "good"],
  [/Workload|Rollout|Replica|Ordered|Stopping|Node|Drain/, "act"],
];

export const toneOf = (kind: string): Tone =>
  TONES.find(([pattern]) => pattern.test(kind))?.[1] ?? "plain";

/** `InstanceOrdered` as words. */
export const kindWords = (kind: string): string =>
  kind.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();

export const EventRow = memo(function EventRow({ event }: { event: ClusterEvent }) {
  return (
    <li className={`event tone-${toneOf(event.kind)}`}>
      <time dateTime={event.at}>{clock(event.at)}</time>
      <span className="event-kind">{kindWords(event.kind)}</span>
      <span className="event-text">
        <Message event={event} />
      </span>
    </li>
  );
});

/** Its sentence, in which whom it is about leads there. */
function Message({ event }: { event: ClusterEvent }) {
  const places: Record<string, string> = {};
  if (event.node) places[event.node] = link("nodes", event.node);
  if (event.workload) places[event.workload] = link("workloads", event.workload);
  if (event.instance) places[event.instance] = link("instances", event.instance);
  const words = event.message.split(/([a-z0-9][a-z0-9-]*)/);
  return words.map((word, index) => {
    // `web` in `registry/web` or `demo:web` is a part of another word.
    const whole = index % 2 === 1 && !/[:/.@_-]$/.test(words[index - 1] ?? "");
    const place = whole && Object.hasOwn(places, word) ? places[word] : undefined;
    return place ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: words do not move
      <a key={index} href={place}>
        {word}
      </a>
    ) : (
      word
    );
  });
}

export function EventList({ events, label }: { events: readonly ClusterEvent[]; label: string }) {
  return (
    <ol className="events" aria-label={label}>
      {events.map((event) => (
        <EventRow key={event.seq} event={event} />
      ))}
    </ol>
  );
}

/** The newest of those that something is about, and where the others are. */
export function LatestEvents(props: {
  /** In order. */
  events: readonly ClusterEvent[];
  most: number;
  label: string;
  all: string;
}) {
  const { events, most, label, all } = props;
  const latest = useMemo(() => events.slice(-most).reverse(), [events, most]);
  if (latest.length === 0) return <p className="node-empty">Nothing lately.</p>;
  return (
    <>
      <EventList events={latest} label={label} />
      {events.length > most && (
        <p className="more">
          <a href={all}>{count(events.length - most, "older event")}</a>
        </p>
      )}
    </>
  );
}
