// One node: what it has, and what can be done to it.

import { useMemo } from "react";
import { age, count } from "../lib/format.ts";
import { link } from "../lib/router.ts";
import { cordon, DeedButton, drain, forget, uncordon } from "../parts/deeds.tsx";
import { LatestEvents } from "../parts/events.tsx";
import { InstanceTable } from "../parts/table.tsx";
import {
  store,
  useEvents,
  useHeard,
  useInstancesOfNode,
  useNode,
  useSecond,
} from "../state/hooks.ts";
import { troubleOf } from "./cluster.tsx";

export function NodePage({ id }: { id: string }) {
  const node = useNode(id);
  const instances = useInstancesOfNode(id);
  const events = useEvents();
  const its = useMemo(() => events.filter((event) => event.node === id), [events, id]);
  if (!node) {
    return (
      <div className="empty">
        <h1>There is no node {id}</h1>
        <p>
          It may have been removed. <a href={link("")}>To the cluster</a>
        </p>
      </div>
    );
  }
  const trouble = troubleOf(node);
  return (
    <div className="page">
      <header className="page-head">
        <div>
          <p className="crumbs">
            <a href={link("")}>Cluster</a> / node
          </p>
          <h1>
            {id} <span className={trouble ? "badge bad" : "badge good"}>{trouble ?? "alive"}</span>
          </h1>
          <p className="page-sub">
            agent at {node.address}, version {node.version} · <Heard id={id} /> ·{" "}
            {count(node.instances, "instance")}
          </p>
          {node.message && <p className="page-why">{node.message}</p>}
        </div>
        <div className="deeds">
          {!node.draining && (
            <DeedButton needs="admin" deed={() => drain(node)}>
              Drain
            </DeedButton>
          )}
          {node.schedulable ? (
            <DeedButton needs="admin" deed={() => cordon(node)}>
              Cordon
            </DeedButton>
          ) : (
            <DeedButton needs="admin" deed={() => uncordon(node)}>
              Uncordon
            </DeedButton>
          )}
          <DeedButton needs="admin" deed={() => forget(node)} className="button danger quiet">
            Forget
          </DeedButton>
        </div>
      </header>
      <section className="panel" aria-labelledby="its-instances">
        <div className="panel-head">
          <h2 id="its-instances">Instances</h2>
        </div>
        <InstanceTable instances={instances} without="node" />
      </section>
      <section className="panel" aria-labelledby="its-story">
        <div className="panel-head">
          <h2 id="its-story">What was decided</h2>
        </div>
        <LatestEvents
          events={its}
          most={100}
          label={`What was decided about ${id}`}
          all={link("timeline", undefined, { with: id })}
        />
      </section>
    </div>
  );
}

function Heard({ id }: { id: string }) {
  const heard = useHeard(id) ?? store.heard(id);
  useSecond();
  if (heard === undefined) return <>not heard since the scheduler started</>;
  return <>heard {age(store.knownUntil() - heard)} ago</>;
}
