// One instance: one container's one life.

import { useMemo } from "react";
import { lookOf, stateOf } from "../lib/look.ts";
import { link } from "../lib/router.ts";
import { Command } from "../parts/copy.tsx";
import { LatestEvents } from "../parts/events.tsx";
import { Uptime } from "../parts/tile.tsx";
import { useEvents, useInstance, useNode } from "../state/hooks.ts";

export function InstancePage({ id }: { id: string }) {
  const instance = useInstance(id);
  const node = useNode(instance?.nodeId ?? "");
  const events = useEvents();
  const its = useMemo(() => events.filter((event) => event.instance === id), [events, id]);
  const story = (
    <section className="panel" aria-labelledby="its-story">
      <div className="panel-head">
        <h2 id="its-story">Its life</h2>
      </div>
      <LatestEvents
        events={its}
        most={100}
        label={`What happened to ${id}`}
        all={link("timeline", undefined, { with: id })}
      />
    </section>
  );
  if (!instance) {
    return (
      <div className="page">
        <header className="page-head">
          <div>
            <h1>{id}</h1>
            <p className="page-sub">
              It is gone, and its log with it. <a href={link("")}>To the cluster</a>
            </p>
          </div>
        </header>
        {its.length > 0 && story}
      </div>
    );
  }
  const look = lookOf(instance);
  const host = node?.address.replace(/:\d+$/, "") ?? "";
  return (
    <div className="page">
      <header className="page-head">
        <div>
          <p className="crumbs">
            <a href={link("")}>Cluster</a> /{" "}
            <a href={link("workloads", instance.workloadId)}>{instance.workloadId}</a> / instance
          </p>
          <h1>
            {id}{" "}
            <span className={`badge with-tile`}>
              <span className={`tile look-${look}`} aria-hidden="true" /> {stateOf(instance)}
            </span>
          </h1>
          {instance.message && <p className="page-why">{instance.message}</p>}
        </div>
        <div className="deeds">
          <a className="button" href={link("logs", instance.workloadId, { only: id })}>
            Log
          </a>
        </div>
      </header>
      <section className="panel" aria-label="What it is">
        <dl className="details">
          <Detail name="workload">
            <a href={link("workloads", instance.workloadId)}>{instance.workloadId}</a>, replica{" "}
            {instance.replica}, revision {instance.revision}
          </Detail>
          <Detail name="node">
            <a href={link("nodes", instance.nodeId)}>{instance.nodeId}</a>
          </Detail>
          <Detail name="image">{instance.image || "of a revision that is no longer kept"}</Detail>
          <Detail name="phase">{instance.phase}</Detail>
          <Detail name="health">{instance.health}</Detail>
          <Detail name="ready">{instance.ready ? "yes" : "no"}</Detail>
          <Detail name="up">
            <Uptime instance={instance} />
          </Detail>
          <Detail name="restarts of its replica">{instance.restarts}</Detail>
          {instance.replaces && (
            <Detail name="replaces">
              <a href={link("instances", instance.replaces)}>{instance.replaces}</a>
            </Detail>
          )}
          {instance.ports?.map((port) => (
            <Detail
              key={`${port.containerPort}/${port.protocol}`}
              name={`port ${port.containerPort}`}
            >
              <Address protocol={port.protocol} address={`${host}:${port.hostPort}`} />
            </Detail>
          ))}
          {instance.ip && <Detail name="own address">{instance.ip}</Detail>}
          {instance.containerId && (
            <Detail name="container">{instance.containerId.slice(0, 12)}</Detail>
          )}
        </dl>
        {look === "ready" && (
          <Command
            text={`docker kill ${id}`}
            label="its id is its container's name; see what happens"
          />
        )}
      </section>
      {story}
    </div>
  );
}

function Detail({ name, children }: { name: string; children: React.ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** Where something is reached. */
export function Address({ protocol, address }: { protocol: string; address: string }) {
  if (protocol !== "tcp") return <code>{`${address}/${protocol}`}</code>;
  if (!/^[\w.:[\]-]+:\d+$/.test(address)) return <code>{address}</code>;
  return (
    <a href={`http://${address}`} target="_blank" rel="noreferrer noopener">
      {address}
    </a>
  );
}
