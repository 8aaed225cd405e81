// Desired against actual, to be seen at one glance: a place for each replica
// that is wanted, and what is in it.

import { memo } from "react";
import { count, number } from "../lib/format.ts";
import { lookOf, type Part, partsOf, type Slot, sentenceOf, slotsOf } from "../lib/look.ts";
import { link } from "../lib/router.ts";
import type { Instance, Workload } from "../state/types.ts";

/** With more places than this, they are drawn as one bar. */
const SLOTS_AT_MOST = 60;

interface Props {
  workload: Workload;
  instances: readonly Instance[];
}

export function inWords(workload: Workload): string {
  const { desired, ready, pending, waiting, done, running, stopping } = workload;
  const parts = [`${ready} of ${desired} ready`];
  if (running > ready) parts.push(`${running - ready} starting`);
  if (pending > 0) parts.push(`${pending} coming up`);
  if (waiting > 0) parts.push(`${waiting} waiting`);
  if (done > 0) parts.push(`${done} done`);
  if (stopping > 0) parts.push(`${stopping} stopping`);
  return parts.join(", ");
}

export const Strip = memo(function Strip({ workload, instances }: Props) {
  const label = `${count(workload.desired, "replica")} wanted: ${inWords(workload)}`;
  if (workload.desired > SLOTS_AT_MOST) {
    return <Bar workload={workload} instances={instances} label={label} />;
  }
  return (
    <span className="strip" role="img" aria-label={label} title={label}>
      {slotsOf(workload, instances).map((slot) => (
        <Place key={slot.replica} slot={slot} />
      ))}
    </span>
  );
});

function Place({ slot }: { slot: Slot }) {
  return (
    <span className="slot">
      {slot.done && <span className="tile look-done" />}
      {slot.instances.map((instance) => (
        <span key={instance.id} className={`tile look-${lookOf(instance)}`} />
      ))}
    </span>
  );
}

/** As many of a kind as there are, side by side. */
export function Bar({ workload, instances, label }: Props & { label: string }) {
  return (
    <span className="bar" role="img" aria-label={label} title={label}>
      {partsOf(workload, instances).map(({ part, many }) => (
        <span key={part} className={`look-${part}`} style={{ flexGrow: many }} />
      ))}
    </span>
  );
}

const WORDS: Partial<Record<Part["part"], string>> = {
  old: "ready, of the old revision",
  pending: "coming up",
  missing: "not there yet",
};

/** What the parts of the bar are. */
function Key({ workload, instances }: Props) {
  return (
    <ul className="legend" aria-label="How many are how">
      {partsOf(workload, instances).map(({ part, many }) => (
        <li key={part}>
          <span className={`tile look-${part}`} aria-hidden="true" />
          <b>{number(many)}</b> {WORDS[part] ?? part}
        </li>
      ))}
    </ul>
  );
}

/** The same, large, with links: replica by replica. */
export function Places({ workload, instances }: Props) {
  if (workload.desired > SLOTS_AT_MOST) {
    return (
      <div className="places-many">
        <Strip workload={workload} instances={instances} />
        <Key workload={workload} instances={instances} />
      </div>
    );
  }
  return (
    <ol className="places" aria-label="Replicas">
      {slotsOf(workload, instances).map((slot) => (
        <li key={slot.replica} className={slot.instances.length === 0 ? "place open" : "place"}>
          <span className="place-number">{slot.replica}</span>
          {slot.done && <span className="tile look-done" title="done" />}
          {slot.instances.map((instance) => (
            <a
              key={instance.id}
              href={link("instances", instance.id)}
              className={`tile look-${lookOf(instance)}${
                instance.revision === workload.revision ? "" : " old"
              }`}
              title={sentenceOf(instance)}
              aria-label={sentenceOf(instance)}
            />
          ))}
          {slot.instances.length === 0 && !slot.done && (
            <span className="hole" title={slot.why?.message ?? "nothing here yet"} />
          )}
          <span className="place-rev">
            {slot.instances.map((instance) => `r${instance.revision}`).join(" → ")}
          </span>
        </li>
      ))}
    </ol>
  );
}
