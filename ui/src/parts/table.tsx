// Instances in rows, with reasons.

import { useState } from "react";
import { count } from "../lib/format.ts";
import { isOver, lookOf, stateOf } from "../lib/look.ts";
import { link } from "../lib/router.ts";
import type { Instance, Why } from "../state/types.ts";
import { Uptime } from "./tile.tsx";

const ROWS_AT_FIRST = 100;

interface Props {
  instances: readonly Instance[];
  /** A column that would say the same in each row. */
  without: "node" | "workload";
  /** Fresher words of the workload about some of them. */
  reasons?: readonly Why[];
}

export function InstanceTable({ instances, without, reasons }: Props) {
  const [most, setMost] = useState(ROWS_AT_FIRST);
  // What has ended comes last.
  const sorted = [...instances.filter((one) => !isOver(one)), ...instances.filter(isOver)];
  if (instances.length === 0) return <p className="node-empty">No instances.</p>;
  return (
    <div className="table-box">
      <table>
        <thead>
          <tr>
            <th scope="col">Instance</th>
            <th scope="col">{without === "node" ? "Workload" : "Node"}</th>
            <th scope="col">State</th>
            <th scope="col">Why</th>
            <th scope="col" className="num">
              Restarts
            </th>
            <th scope="col" className="num">
              Up
            </th>
            <th scope="col">Log</th>
          </tr>
        </thead>
        <tbody>
          {sorted.slice(0, most).map((instance) => {
            const look = lookOf(instance);
            // What it waits for is told anew each second by its workload; how it ended, by itself.
            const why = isOver(instance)
              ? undefined
              : reasons?.find((why) => why.instanceId === instance.id)?.message;
            return (
              <tr key={instance.id} className={isOver(instance) ? "over" : undefined}>
                <th scope="row">
                  <a href={link("instances", instance.id)}>{instance.id}</a>
                </th>
                <td>
                  {without === "node" ? (
                    <a href={link("workloads", instance.workloadId)}>{instance.workloadId}</a>
                  ) : (
                    <a href={link("nodes", instance.nodeId)}>{instance.nodeId}</a>
                  )}
                </td>
                <td>
                  <span className="state">
                    <span className={`tile look-${look}`} aria-hidden="true" /> {stateOf(instance)}
                  </span>
                </td>
                <td className="why">{why ?? instance.message ?? ""}</td>
                <td className="num">{instance.restarts}</td>
                <td className="num">
                  <Uptime instance={instance} />
                </td>
                <td>
                  <a href={link("logs", instance.workloadId, { only: instance.id })}>log</a>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {instances.length > most && (
        <button type="button" className="button quiet" onClick={() => setMost(most + 500)}>
          {count(instances.length - most, "more instance")}
        </button>
      )}
    </div>
  );
}
