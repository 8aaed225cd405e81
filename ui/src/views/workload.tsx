// One workload: what is wanted, what is, why it differs, and what can be done.

import { memo, useEffect, useMemo, useState } from "react";
import { ctl } from "../lib/ctl.ts";
import { diff } from "../lib/diff.ts";
import { clock, count, number, shortImage } from "../lib/format.ts";
import { isOpen, isOver, standingOf } from "../lib/look.ts";
import { link } from "../lib/router.ts";
import { stepsOf, waveWords } from "../lib/waves.ts";
import { Chart } from "../parts/chart.tsx";
import { Command } from "../parts/copy.tsx";
import {
  DeedButton,
  RollButton,
  remove,
  restart,
  rolloutStep,
  ScaleButton,
  undo,
} from "../parts/deeds.tsx";
import { EventRow, LatestEvents } from "../parts/events.tsx";
import { inWords, Places } from "../parts/strip.tsx";
import { InstanceTable } from "../parts/table.tsx";
import { Tiles } from "../parts/tile.tsx";
import { store, useEvents, useInstancesOfWorkload, useWorkload } from "../state/hooks.ts";
import { ask } from "../state/http.ts";
import { useMay } from "../state/session.ts";
import type { ClusterEvent, Instance, Revision, Rollout, Workload } from "../state/types.ts";
import { Address } from "./instance.tsx";

export function WorkloadPage({ name }: { name: string }) {
  const workload = useWorkload(name);
  const instances = useInstancesOfWorkload(name);
  const events = useEvents();
  const its = useMemo(() => events.filter((event) => event.workload === name), [events, name]);
  if (!workload) return <NoWorkload name={name} leaving={instances} />;
  const standing = standingOf(workload);
  return (
    <div className="page">
      <header className="page-head">
        <div>
          <p className="crumbs">
            <a href={link("")}>Cluster</a> / workload
          </p>
          <h1>
            {name} <span className="badge">revision {workload.revision}</span>
          </h1>
          <p className="page-sub mono">{workload.spec.image}</p>
        </div>
        <Deeds workload={workload} />
      </header>
      <section className={`glance standing-${standing}`} aria-label="Wanted, and what is">
        <Numbers workload={workload} />
        <Places workload={workload} instances={instances} />
        <Chart of={name} label={name} />
      </section>
      <Reasons workload={workload} />
      {workload.rollout && (
        <RolloutPanel
          workload={workload}
          rollout={workload.rollout}
          instances={instances}
          events={its}
        />
      )}
      <section className="panel" aria-labelledby="instances">
        <div className="panel-head">
          <h2 id="instances">Instances</h2>
          <a href={link("logs", name)}>all their logs</a>
        </div>
        <InstanceTable instances={instances} without="workload" reasons={workload.reasons} />
      </section>
      <div className="columns">
        <Endpoints workload={workload} instances={instances} />
        <Revisions workload={workload} />
      </div>
      <section className="panel" aria-labelledby="decided">
        <div className="panel-head">
          <h2 id="decided">What was decided, and why</h2>
          <a href={link("timeline", undefined, { workload: name })}>all of it</a>
        </div>
        <LatestEvents
          events={its}
          most={60}
          label={`What was decided about ${name}`}
          all={link("timeline", undefined, { workload: name })}
        />
      </section>
      <SpecPanel workload={workload} />
      <Command text={ctl("status", name, "--watch")} label="the same in a terminal" />
    </div>
  );
}

function NoWorkload({ name, leaving }: { name: string; leaving: readonly Instance[] }) {
  return (
    <div className="page">
      <header className="page-head">
        <div>
          <h1>There is no workload {name}</h1>
          <p className="page-sub">
            It was deleted, or never deployed. <a href={link("")}>To the cluster</a>
          </p>
        </div>
      </header>
      {leaving.length > 0 && (
        <section className="panel" aria-label="What is left of it">
          <InstanceTable instances={leaving} without="workload" />
        </section>
      )}
    </div>
  );
}

function Deeds({ workload }: { workload: Workload }) {
  const { name } = workload.spec;
  const may = useMay("operator");
  return (
    <div className="deeds">
      <ScaleButton workload={workload} />
      <RollButton workload={workload} />
      <DeedButton deed={() => restart(workload)}>Restart</DeedButton>
      {may && (
        <a className="button" href={link("deploy", name)}>
          Edit
        </a>
      )}
      <a className="button" href={link("logs", name)}>
        Logs
      </a>
      <DeedButton deed={() => remove(workload)} className="button danger quiet">
        Delete
      </DeedButton>
    </div>
  );
}

function Numbers({ workload }: { workload: Workload }) {
  const { desired, ready, done, running, pending, waiting, stopping, restarts } = workload;
  const all: [string, number, boolean][] = [
    ["wanted", desired, true],
    ["ready", ready, true],
    ["done", done, done > 0],
    ["starting", running - ready, running > ready],
    ["coming up", pending, true],
    ["waiting", waiting, waiting > 0],
    ["stopping", stopping, stopping > 0],
    ["restarts", restarts, restarts > 0],
  ];
  return (
    <dl className="facts big" aria-label={inWords(workload)}>
      {all
        .filter(([, , shown]) => shown)
        .map(([words, value]) => (
          <div
            key={words}
            className={`fact fact-${words.replace(" ", "-")}${
              words === "ready" && ready + done < desired ? " fact-short" : ""
            }`}
          >
            <dd>{number(value)}</dd>
            <dt>{words}</dt>
          </div>
        ))}
    </dl>
  );
}

/** The scheduler tells so many at most. */
const REASONS_TOLD = 20;

function Reasons({ workload }: { workload: Workload }) {
  if (workload.reasons.length === 0) return null;
  return (
    <section className="panel reasons" aria-label="Why it is not as wanted">
      <ul>
        {workload.reasons.slice(0, 8).map((why, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: reasons have no identity of their own
          <li key={index}>
            <span className="badge">{why.reason}</span>{" "}
            {why.instanceId && store.instance(why.instanceId) && (
              <a href={link("instances", why.instanceId)}>{why.instanceId}</a>
            )}{" "}
            {why.message}
          </li>
        ))}
        {workload.reasons.length > 8 && (
          <li>
            and {workload.reasons.length >= REASONS_TOLD && "at least "}
            {workload.reasons.length - 8} more
          </li>
        )}
      </ul>
    </section>
  );
}

type Its = readonly ClusterEvent[];

interface RolloutProps {
  workload: Workload;
  rollout: Rollout;
  instances: readonly Instance[];
  events: Its;
}

function RolloutPanel({ workload, rollout, instances, events }: RolloutProps) {
  const { from, to, state, updated, total } = rollout;
  const open = isOpen(rollout);
  const words = {
    rolling: `Rolling from revision ${from} to ${to}`,
    paused: `Paused between revision ${from} and ${to}`,
    aborting: `Going back from revision ${to}`,
    done: `Revision ${to} is everywhere`,
    aborted: `The rollout to revision ${to} was aborted`,
  }[state];
  return (
    <section className={`panel rollout rollout-${state}`} aria-labelledby="rollout">
      <div className="panel-head">
        <h2 id="rollout">{words}</h2>
        <div className="deeds">
          {state === "rolling" && (
            <DeedButton deed={() => rolloutStep(workload, "pause")}>Pause</DeedButton>
          )}
          {state === "paused" && (
            <DeedButton deed={() => rolloutStep(workload, "resume")} className="button primary">
              Resume
            </DeedButton>
          )}
          {(state === "rolling" || state === "paused") && (
            <DeedButton deed={() => rolloutStep(workload, "abort")} className="button danger">
              Abort
            </DeedButton>
          )}
          {!open && <DeedButton deed={() => undo(workload)}>Undo</DeedButton>}
        </div>
      </div>
      {open && (
        <>
          <div className="progress">
            <progress max={total} value={updated} aria-label="Replicas updated" />
            <span>
              {updated} of {total} updated
            </span>
          </div>
          <Waves instances={instances} from={from} to={to} />
        </>
      )}
      {rollout.why && <p className="page-why">{rollout.why}</p>}
      {open && state !== "paused" && rollout.waitingFor && (
        <p className="rollout-waits">waits for: {rollout.waitingFor}</p>
      )}
      {open && <WaveLog name={workload.spec.name} events={events} total={total} />}
    </section>
  );
}

/** Old on the left, new on the right. */
function Waves({
  instances,
  from,
  to,
}: {
  instances: readonly Instance[];
  from: number;
  to: number;
}) {
  const live = instances.filter((instance) => !isOver(instance));
  const side = (revision: number) => live.filter((instance) => instance.revision === revision);
  return (
    <div className="waves">
      <Side revision={from} instances={side(from)} />
      <span className="waves-arrow" aria-hidden="true">
        →
      </span>
      <Side revision={to} instances={side(to)} />
    </div>
  );
}

function Side({ revision, instances }: { revision: number; instances: readonly Instance[] }) {
  return (
    <div>
      <h3>
        revision {revision} <small>{count(instances.length, "instance")}</small>
      </h3>
      <Tiles instances={instances} label={`Instances of revision ${revision}`} dense />
    </div>
  );
}

/** With more replicas than this, its steps are told by waves. */
const ONE_BY_ONE = 12;
const STEPS_SHOWN = 10;

function WaveLog({ name, events, total }: { name: string; events: Its; total: number }) {
  const steps = useMemo(() => stepsOf(events, total > ONE_BY_ONE), [events, total]);
  const shown = steps.slice(-STEPS_SHOWN).reverse();
  return (
    <>
      <ol className="events" aria-label="The rollout's steps">
        {shown.map((step) =>
          "event" in step ? (
            <EventRow key={step.event.seq} event={step.event} />
          ) : (
            <li key={step.seq} className="event tone-act">
              <time dateTime={step.from}>{clock(step.from)}</time>
              <span className="event-kind">wave</span>
              <span className="event-text">{waveWords(step)}</span>
            </li>
          ),
        )}
      </ol>
      {steps.length > shown.length && (
        <p className="more">
          <a href={link("timeline", undefined, { workload: name })}>
            {count(steps.length - shown.length, "step")} before these
          </a>
        </p>
      )}
    </>
  );
}

function Endpoints({
  workload,
  instances,
}: {
  workload: Workload;
  instances: readonly Instance[];
}) {
  const rows = instances
    .filter((instance) => instance.ready && !instance.stopping)
    .flatMap((instance) =>
      (instance.ports ?? []).map((port) => {
        const host = store.node(instance.nodeId)?.address.replace(/:\d+$/, "") ?? "";
        return { instance, port, address: `${host}:${port.hostPort}` };
      }),
    );
  return (
    <section className="panel" aria-labelledby="endpoints">
      <div className="panel-head">
        <h2 id="endpoints">Where it is reached</h2>
      </div>
      {rows.length === 0 ? (
        <p className="node-empty">
          {workload.spec.ports?.length
            ? "Nowhere: no instance is ready."
            : "Nowhere: its spec names no ports."}
        </p>
      ) : (
        <ul className="endpoints">
          {rows.slice(0, 50).map(({ instance, port, address }) => (
            <li key={`${instance.id} ${port.containerPort}`}>
              <Address protocol={port.protocol} address={address} />
              <span>
                port {port.containerPort} of{" "}
                <a href={link("instances", instance.id)}>{instance.id}</a> on {instance.nodeId}
              </span>
            </li>
          ))}
          {rows.length > 50 && <li>and {rows.length - 50} more</li>}
        </ul>
      )}
      <Command text={ctl("discover", workload.spec.name)} />
    </section>
  );
}

const Revisions = memo(function Revisions({ workload }: { workload: Workload }) {
  const { name } = workload.spec;
  const [history, setHistory] = useState<Revision[]>([]);
  const [trouble, setTrouble] = useState<string>();
  const [open, setOpen] = useState<number>();
  // Asked for when it may have changed, not again and again.
  const state = `${workload.revision} ${workload.rollout?.state} ${workload.rollout?.to}`;
  useEffect(() => {
    let current = true;
    ask<Revision[]>("GET", `/workloads/${encodeURIComponent(name)}/history`)
      .then((found) => {
        if (!current || !state) return;
        setHistory(found.reverse());
        setTrouble(undefined);
      })
      .catch((error: Error) => current && setTrouble(error.message));
    return () => {
      current = false;
    };
  }, [name, state]);
  const now = history.find((revision) => revision.current);
  return (
    <section className="panel" aria-labelledby="revisions">
      <div className="panel-head">
        <h2 id="revisions">Revisions</h2>
      </div>
      {trouble && <p className="page-why">They cannot be shown as they are now: {trouble}</p>}
      <ol className="revisions">
        {history.map((revision) => (
          <li key={revision.revision} className={revision.current ? "current" : undefined}>
            <div className="revision-line">
              <b>r{revision.revision}</b>
              <span className="mono">{shortImage(revision.template.image)}</span>
              {revision.current && <span className="badge good">wanted now</span>}
              {revision.head && !revision.current && <span className="badge">last complete</span>}
              <span className="revision-why">
                {wordOf(revision)}
                {revision.again && <> · again: {wordOf(revision.again)}</>}
              </span>
              {!revision.current && (
                <span className="deeds">
                  <button
                    type="button"
                    className="button quiet small"
                    aria-expanded={open === revision.revision}
                    onClick={() =>
                      setOpen(open === revision.revision ? undefined : revision.revision)
                    }
                  >
                    Diff
                  </button>
                  <DeedButton
                    deed={() => undo(workload, revision.revision)}
                    className="button quiet small"
                  >
                    Go back to it
                  </DeedButton>
                </span>
              )}
            </div>
            {revision.outcome && <p className="page-why">{revision.outcome}</p>}
            {open === revision.revision && now && now !== revision && (
              <TemplateDiff from={revision} to={now} />
            )}
          </li>
        ))}
      </ol>
      <Command text={ctl("rollout", "history", name)} />
    </section>
  );
});

const wordOf = ({ why, at, by }: { why: string; at: string; by: string }) =>
  `${why}, ${clock(at)}, ${by}`;

function TemplateDiff({ from, to }: { from: Revision; to: Revision }) {
  const lines = useMemo(
    () => diff(JSON.stringify(from.template, null, 2), JSON.stringify(to.template, null, 2)),
    [from, to],
  );
  return (
    <figure className="diff">
      <figcaption>
        from r{from.revision} to r{to.revision}
      </figcaption>
      <pre>
        {lines.map((line, index) => (
          <span
            // biome-ignore lint/suspicious/noArrayIndexKey: lines do not move
            key={index}
            className={{ "-": "removed", "+": "added", " ": "same" }[line.sign]}
          >
            {line.sign} {line.text}
            {"\n"}
          </span>
        ))}
      </pre>
    </figure>
  );
}

function SpecPanel({ workload }: { workload: Workload }) {
  const text = useMemo(() => JSON.stringify(workload.spec, null, 2), [workload.spec]);
  const may = useMay("operator");
  return (
    <section className="panel" aria-labelledby="spec">
      <div className="panel-head">
        <h2 id="spec">Spec</h2>
        {may && <a href={link("deploy", workload.spec.name)}>edit</a>}
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls is reached by keyboard */}
      <section className="spec" tabIndex={0} aria-label="Spec as JSON">
        <pre>{text}</pre>
      </section>
    </section>
  );
}
