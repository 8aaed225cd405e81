// Desired against actual, to be seen at one glance: a place for each replica
// that is wanted, and what is in it.

import { memo } from "react";
import { count } from "../lib/format.ts";
import { lookOf, type Slot, sentenceOf, slotsOf } from "../lib/look.ts";
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
  if (workload.desired > SLOTS_AT_MOST) return <Bar workload={workload} label={label} />;
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

function Bar({ workload, label }: { workload: Workload; label: string }) {
  const { desired, ready, done, running, pending } = workload;
  const part = (of: number) => ({ flexGrow: Math.max(0, of) });
  const rest = desired - ready - done - Math.max(0, running - ready) - pending;
  return (
    <span className="bar" role="img" aria-label={label} title={label}>
      <span className="look-ready" style={part(ready)} />
      <span className="look-done" style={part(done)} />
      <span className="look-starting" style={part(running - ready)} />
      <span className="look-pending" style={part(pending)} />
      <span style={part(rest)} />
    </span>
  );
}

/** The same, large, with links: replica by replica. */
export function Places({ workload, instances }: Props) {
  if (workload.desired > SLOTS_AT_MOST) {
    return <Strip workload={workload} instances={instances} />;
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
