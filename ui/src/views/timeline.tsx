// What was decided and why, of one workload or all.

import { useDeferredValue, useMemo, useState } from "react";
import { ctl } from "../lib/ctl.ts";
import { clock, count, number } from "../lib/format.ts";
import { go, link, usePlace } from "../lib/router.ts";
import { Chart } from "../parts/chart.tsx";
import { Command } from "../parts/copy.tsx";
import { EventList, toneOf } from "../parts/events.tsx";
import { store, useEvents, useWorkloadNames } from "../state/hooks.ts";
import { WHOLE } from "../state/store.ts";
import type { ClusterEvent } from "../state/types.ts";

const ROWS_AT_FIRST = 150;

const KINDS = [
  { value: "", words: "everything" },
  { value: "bad", words: "what went wrong" },
  { value: "act", words: "what was decided" },
  { value: "good", words: "what went well" },
];

export function TimelinePage() {
  const events = useEvents();
  const names = useWorkloadNames();
  const { params } = usePlace();
  const workload = params.get("workload") ?? "";
  const [tone, setTone] = useState("");
  const [text, setText] = useState(params.get("with") ?? "");
  const [most, setMost] = useState(ROWS_AT_FIRST);
  const [held, setHeld] = useState<typeof events>();
  const wanted = useDeferredValue(text.trim().toLowerCase());
  const source = held ?? events;
  const found = useMemo(() => {
    const fits = source.filter(
      (event) =>
        (!workload || event.workload === workload) &&
        (!tone || toneOf(event.kind) === tone) &&
        (!wanted ||
          `${event.kind} ${event.message} ${event.instance} ${event.node}`
            .toLowerCase()
            .includes(wanted)),
    );
    return fits.reverse();
  }, [source, workload, tone, wanted]);
  const known = workload && !names.includes(workload) ? [...names, workload] : names;
  const behind = held ? events.length - held.length : 0;
  return (
    <div className="page">
      <header className="page-head">
        <div>
          <h1>Timeline</h1>
          <p className="page-sub">What was decided, and why; newest first.</p>
        </div>
        <Chart of={workload || WHOLE} label={workload || "All replicas"} />
      </header>
      <search className="filters">
        <label>
          <span>Of</span>
          <select
            value={workload}
            onChange={(event) =>
              go(
                link(
                  "timeline",
                  undefined,
                  event.target.value ? { workload: event.target.value } : {},
                ),
              )
            }
          >
            <option value="">all workloads</option>
            {known.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </label>
        <label>
          <span>Show</span>
          <select value={tone} onChange={(event) => setTone(event.target.value)}>
            {KINDS.map(({ value, words }) => (
              <option key={value} value={value}>
                {words}
              </option>
            ))}
          </select>
        </label>
        <label className="grow">
          <span>With</span>
          <input
            type="search"
            placeholder="words, an instance, a node"
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        <button
          type="button"
          className="button"
          aria-pressed={held !== undefined}
          onClick={() => setHeld(held ? undefined : events)}
        >
          {held ? `Go on${behind > 0 ? ` (${number(behind)} new)` : ""}` : "Hold"}
        </button>
      </search>
      <section className="panel" aria-label="Events">
        {found.length === 0 ? (
          <p className="node-empty">
            {source.length === 0 ? "Nothing has happened yet." : "Nothing that fits."}
          </p>
        ) : (
          <EventList events={found.slice(0, most)} label="Events, newest first" />
        )}
        {found.length > most && (
          <button type="button" className="button quiet" onClick={() => setMost(most + 500)}>
            {count(found.length - most, "older event")}
          </button>
        )}
        <Kept events={source} />
      </section>
      <Command
        text={ctl("events", ...(workload ? ["--workload", workload] : []), "--follow")}
        label="the same in a terminal"
      />
    </div>
  );
}

/** What is not here, and why. */
function Kept({ events }: { events: readonly ClusterEvent[] }) {
  const [first] = events;
  return (
    <>
      {store.eventsMissed && (
        <p className="page-why">
          Some events in between are missing: this page was cut off for too long, or too slow.
        </p>
      )}
      {first && first.seq > 1 && (
        <p className="more">
          This is all since {clock(first.at)}. The {count(first.seq - 1, "event")} before that{" "}
          {first.seq === 2 ? "is" : "are"} not kept here.
        </p>
      )}
    </>
  );
}
