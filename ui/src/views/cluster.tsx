// The cluster at one glance: what is wanted and what is, and where it runs.

import { memo, useEffect, useMemo, useRef, useState } from "react";
import { ctl } from "../lib/ctl.ts";
import { age, count, number, shortImage } from "../lib/format.ts";
import { isOpen, isOver, LOOKS, standingOf, worstOf } from "../lib/look.ts";
import { link } from "../lib/router.ts";
import { Chart } from "../parts/chart.tsx";
import { Command } from "../parts/copy.tsx";
import { EventList, toneOf } from "../parts/events.tsx";
import { inWords, Strip } from "../parts/strip.tsx";
import { Tiles } from "../parts/tile.tsx";
import {
  store,
  useCalm,
  useEvents,
  useHeard,
  useInstancesOfNode,
  useInstancesOfWorkload,
  useNode,
  useNodeIds,
  useSecond,
  useTotals,
  useWorkload,
  useWorkloadNames,
  useWorkloadsByNeed,
} from "../state/hooks.ts";
import { useMay } from "../state/session.ts";
import { type Totals, WHOLE } from "../state/store.ts";
import type { ClusterEvent, ClusterNode } from "../state/types.ts";

export function ClusterPage() {
  const { workloads } = useTotals();
  return (
    <div className="cluster">
      <div className="cluster-main">
        <Headline />
        {workloads === 0 ? <NothingWanted /> : <Workloads />}
        <Nodes />
      </div>
      <aside className="cluster-side" aria-labelledby="just-now">
        <JustNow />
      </aside>
    </div>
  );
}

function sentenceOf({ workloads, desired, short, rollouts }: Totals): string {
  if (workloads === 0) return "Nothing is wanted yet.";
  const are = (some: number) => (some === 1 ? "is" : "are");
  if (short > 0) {
    return `${number(short)} of ${count(desired, "replica")} ${are(short)} not there yet.`;
  }
  if (rollouts === 0) return "Everything is as wanted.";
  return `All replicas are there; ${count(rollouts, "rollout")} ${are(rollouts)} not finished.`;
}

function Headline() {
  const totals = useTotals();
  const { nodes, alive, workloads, ready, done, desired, short } = totals;
  return (
    <section className="headline" aria-label="The cluster as a whole">
      <h1 aria-live="polite">{sentenceOf(totals)}</h1>
      <div className="headline-row">
        <dl className="facts">
          <Fact name="wanted" value={desired} />
          <Fact
            name="ready"
            value={ready + done}
            tone={short > 0 ? "bad" : desired > 0 ? "good" : undefined}
          />
          <Fact name={workloads === 1 ? "workload" : "workloads"} value={workloads} />
          <Fact
            name={nodes === 1 ? "node alive" : "nodes alive"}
            value={alive}
            of={alive === nodes ? undefined : nodes}
            tone={alive === nodes ? undefined : "bad"}
          />
        </dl>
        {workloads > 0 && <Chart of={WHOLE} label="All replicas" />}
      </div>
    </section>
  );
}

function Fact(props: {
  name: string;
  value: number;
  of?: number | undefined;
  tone?: string | undefined;
}) {
  const { name, value, of, tone } = props;
  return (
    <div className={tone ? `fact tone-${tone}` : "fact"}>
      <dd>
        {number(value)}
        {of !== undefined && <small> of {number(of)}</small>}
      </dd>
      <dt>{name}</dt>
    </div>
  );
}

/** The first thing a newcomer sees. */
function NothingWanted() {
  const { alive } = useTotals();
  const may = useMay("operator");
  return (
    <section className="welcome">
      <h2>Say what you want; it is kept running.</h2>
      <p>
        You name an image and how many of it you want. From then on the scheduler compares what is{" "}
        <strong>wanted</strong> with what <strong>is</strong>, again and again, and closes the gap
        on {alive > 0 ? `the ${count(alive, "node")} below` : "its nodes, once there are some"}. Try
        it: deploy the sample, then <code>docker kill</code> one of its containers, and look here.
      </p>
      {may && (
        <p className="deeds">
          <a className="button primary" href={link("deploy", undefined, { sample: "hello" })}>
            Deploy the sample, hello
          </a>
          <a className="button" href={link("deploy")}>
            Deploy something else
          </a>
        </p>
      )}
      <Command text={ctl("deploy", "-f", "examples/hello.json")} label="or in a terminal" />
    </section>
  );
}

/** With more workloads than this, those that are not as wanted are shown first. */
const ROWS_AT_FIRST = 12;

function Workloads() {
  const byName = useWorkloadNames();
  const byNeed = useWorkloadsByNeed();
  const [filter, setFilter] = useState("");
  const [all, setAll] = useState(false);
  const names = byName.length > ROWS_AT_FIRST && !all ? byNeed : byName;
  const shown = useMemo(
    () => names.filter((name) => name.includes(filter.trim())),
    [names, filter],
  );
  return (
    <section className="panel" aria-labelledby="wanted-and-is">
      <div className="panel-head">
        <h2 id="wanted-and-is">Wanted, and what is</h2>
        {names.length > 12 && (
          <input
            type="search"
            aria-label="Workloads by name"
            placeholder={`Find among ${names.length}`}
            value={filter}
            onChange={(event) => setFilter(event.target.value)}
          />
        )}
      </div>
      <ul className="workloads">
        {(all ? shown : shown.slice(0, ROWS_AT_FIRST)).map((name) => (
          <WorkloadRow key={name} name={name} />
        ))}
      </ul>
      {shown.length === 0 && <p className="node-empty">None is called like that.</p>}
      {shown.length > ROWS_AT_FIRST && (
        <button type="button" className="button quiet small" onClick={() => setAll(!all)}>
          {all ? "Those in need first" : `${count(shown.length - ROWS_AT_FIRST, "more workload")}`}
        </button>
      )}
    </section>
  );
}

const WorkloadRow = memo(function WorkloadRow({ name }: { name: string }) {
  const workload = useWorkload(name);
  const instances = useInstancesOfWorkload(name);
  if (!workload) return null;
  const standing = standingOf(workload);
  const why = worstOf(workload.reasons);
  const { rollout } = workload;
  return (
    <li className={`workload standing-${standing}`} data-workload={name}>
      <a className="workload-name" href={link("workloads", name)}>
        {name}
      </a>
      <span className="workload-image" title={workload.spec.image}>
        {shortImage(workload.spec.image)}
      </span>
      <Strip workload={workload} instances={instances} />
      <span className="workload-count">
        <b>{number(workload.ready + workload.done)}</b>/{number(workload.desired)}
      </span>
      <span className="workload-words">
        {isOpen(rollout) ? (
          <span className="badge">
            {rollout.state} r{rollout.from} → r{rollout.to}, {rollout.updated}/{rollout.total}
          </span>
        ) : null}
        <span>{why && standing !== "good" ? why.message : inWords(workload)}</span>
      </span>
    </li>
  );
});

/** With more nodes than this, no heart is seen to beat: something always would. */
const BEATING_AT_MOST = 30;

function Nodes() {
  const ids = useNodeIds();
  const [filter, setFilter] = useState("");
  const shown = useMemo(() => ids.filter((id) => id.includes(filter.trim())), [ids, filter]);
  return (
    <section aria-labelledby="nodes" className="nodes-section">
      <div className="panel-head">
        <h2 id="nodes">Nodes</h2>
        {ids.length > 12 && (
          <input
            type="search"
            aria-label="Nodes by name"
            placeholder={`Find among ${ids.length}`}
            value={filter}
            onChange={(event) => setFilter(event.target.value)}
          />
        )}
        <Legend />
      </div>
      {ids.length === 0 && (
        <div className="welcome">
          <p>No node has registered. Start an agent on this machine, if it has Docker:</p>
          <Command text={`kube-lite agent --scheduler ${location.origin}`} />
        </div>
      )}
      {ids.length > 0 && shown.length === 0 && (
        <p className="node-empty">None is called like that.</p>
      )}
      <Untold />
      <div className={ids.length > BEATING_AT_MOST ? "nodes many" : "nodes"}>
        {shown.map((id) => (
          <NodeCard key={id} id={id} />
        ))}
      </div>
    </section>
  );
}

/** A page is told of so many instances; the numbers count all of them. */
function Untold() {
  useTotals();
  const { instancesTold: told, instancesTotal: total } = store;
  if (total <= told) return null;
  return (
    <p className="page-why">
      This page shows {number(told)} of {number(total)} instances; the numbers above count all. For
      the others: <code>kube-lite ctl instances</code>.
    </p>
  );
}

export function Legend() {
  return (
    <ul className="legend" aria-label="What the tiles mean">
      {LOOKS.map(({ look, words, meaning }) => (
        <li key={look} title={meaning}>
          <span className={`tile look-${look}`} aria-hidden="true" /> {words}
        </li>
      ))}
    </ul>
  );
}

/** How a node is, in a word; `undefined` when all is well. */
export function troubleOf(node: ClusterNode): string | undefined {
  if (node.status !== "alive") return node.status;
  if (node.docker.state !== "ok") return "no Docker";
  if (node.draining) return node.instances > 0 ? "draining" : "drained";
  if (!node.schedulable) return "cordoned";
  return node.message ? "not able" : undefined;
}

const NodeCard = memo(function NodeCard({ id }: { id: string }) {
  const node = useNode(id);
  const [near, card] = useNear();
  const trouble = node && troubleOf(node);
  return (
    <article
      ref={card}
      className={trouble ? `node trouble-${trouble.replace(" ", "-")}` : "node"}
      data-node={id}
      aria-label={`${id}, ${trouble ?? "alive"}`}
    >
      {node && (
        <header>
          <a className="node-name" href={link("nodes", id)}>
            {id}
          </a>
          {trouble && <span className="badge">{trouble}</span>}
          {near && <Pulse id={id} dead={node.status !== "alive"} />}
        </header>
      )}
      {node?.message && <p className="node-message">{node.message}</p>}
      {near && <NodeTiles id={id} />}
    </article>
  );
});

function NodeTiles({ id }: { id: string }) {
  const instances = useInstancesOfNode(id);
  // What has ended is kept for its log; it comes last and small.
  const live = useMemo(() => instances.filter((instance) => !isOver(instance)), [instances]);
  const over = useMemo(() => instances.filter(isOver), [instances]);
  return (
    <>
      {live.length > 0 ? (
        <Tiles instances={live} label={`${count(live.length, "instance")} on ${id}`} />
      ) : (
        <p className="node-empty">nothing runs here</p>
      )}
      {over.length > 0 && (
        <div className="node-over">
          <span>{over.length} ended</span>
          <Tiles instances={over} label={`${count(over.length, "ended instance")} on ${id}`} />
        </div>
      )}
    </>
  );
}

/** A beat of the heart whenever the node is heard. */
function Pulse({ id, dead }: { id: string; dead: boolean }) {
  const heard = useHeard(id);
  return (
    <span className="pulse">
      {heard === undefined ? "never heard" : <Silence heard={heard} dead={dead} />}
    </span>
  );
}

function Silence({ heard, dead }: { heard: number; dead: boolean }) {
  useSecond();
  // While the scheduler is not heard, nobody knows about its nodes.
  const silent = store.knownUntil() - heard;
  const words = silent < 4_500 && !dead ? "heard" : `silent ${age(silent)}`;
  return (
    <>
      <span key={heard} className={dead ? "beat dead" : "beat"} aria-hidden="true" /> {words}
    </>
  );
}

/** Whether an element is on the screen or near it. */
function useNear(): [boolean, React.RefObject<HTMLElement | null>] {
  const element = useRef<HTMLElement>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    const observed = element.current;
    if (!observed) return;
    const observer = new IntersectionObserver(
      ([entry]) => {
        if (!entry) return;
        // What leaves keeps its height, so that nothing jumps.
        if (!entry.isIntersecting && entry.boundingClientRect.height > 0) {
          observed.style.minHeight = `${Math.round(entry.boundingClientRect.height)}px`;
        } else {
          observed.style.minHeight = "";
        }
        setNear(entry.isIntersecting);
      },
      { rootMargin: "400px 0px" },
    );
    observer.observe(observed);
    return () => observer.disconnect();
  }, []);
  return [near, element];
}

const JUST_NOW = 40;

function JustNow() {
  const events = useCalm(useEvents());
  const latest = useMemo(() => {
    // Without the steps in between: created, queued, running.
    const found: ClusterEvent[] = [];
    for (let at = events.length - 1; at >= 0 && found.length < JUST_NOW; at -= 1) {
      const event = events[at];
      if (event && toneOf(event.kind) !== "plain") found.push(event);
    }
    return found;
  }, [events]);
  return (
    <>
      <div className="panel-head">
        <h2 id="just-now">Decided just now</h2>
        <a href={link("timeline")}>all</a>
      </div>
      {latest.length === 0 ? (
        <p className="node-empty">Nothing has happened yet.</p>
      ) : (
        <EventList events={latest} label="What was decided just now" />
      )}
      <p className="side-foot">
        cluster {store.cluster} · epoch {store.epoch} · kube-lite {store.version}
      </p>
    </>
  );
}
