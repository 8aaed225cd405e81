// Desired against ready over the last minutes.

import { age, number } from "../lib/format.ts";
import { scaleOf } from "../lib/scale.ts";
import { usePoints, useSecond } from "../state/hooks.ts";
import type { Point } from "../state/store.ts";

const LONGEST_MS = 5 * 60_000;
/** A page that has just been opened has seen little; it is not stretched further. */
const SHORTEST_MS = 30_000;
const WIDTH = 300;
const HEIGHT = 60;
const TOP = 4;

export function Chart({ of, label }: { of: string; label: string }) {
  const points = usePoints(of);
  useSecond();
  const last = points.at(-1);
  if (!last) return null;
  const now = Date.now();
  const known = now - (points[0]?.at ?? now);
  const span = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, known));
  // What was before the chart begins, and held until then, is its beginning.
  const first = points.findLastIndex((point) => point.at <= now - span);
  const seen = points.slice(Math.max(0, first));
  const values = seen.flatMap((point) => [point.desired, point.ready]);
  const scale = scaleOf(Math.min(...values), Math.max(...values));
  const cut = scale.from > 0;
  const x = (at: number) => Math.max(0, WIDTH - ((now - at) / span) * WIDTH);
  const y = (value: number) =>
    HEIGHT - ((value - scale.from) / (scale.to - scale.from)) * (HEIGHT - TOP);
  const ready = steps(seen, now, x, (point) => y(point.ready));
  const desired = steps(seen, now, x, (point) => y(point.desired));
  const from = x(seen[0]?.at ?? now).toFixed(1);
  return (
    <figure className="chart">
      <div className="chart-box">
        <svg
          viewBox={`0 0 ${WIDTH} ${HEIGHT + 1}`}
          preserveAspectRatio="none"
          role="img"
          aria-label={`${label}: ${last.ready} of ${last.desired} ready now`}
        >
          <path className="chart-base" d={`M0 ${HEIGHT}H${WIDTH}`} />
          {/* Filled from nothing up, or not at all. */}
          {!cut && (
            <path className="chart-area" d={`${ready}L${WIDTH} ${HEIGHT}L${from} ${HEIGHT}Z`} />
          )}
          <path className="chart-ready" d={ready} />
          <path className="chart-desired" d={desired} />
        </svg>
        {cut && (
          <span className="chart-scale" aria-hidden="true">
            <span>{number(scale.to)}</span>
            <span>{number(scale.from)}</span>
          </span>
        )}
      </div>
      <figcaption>
        <span className="key-ready">ready {number(last.ready)}</span>
        <span className="key-desired">wanted {number(last.desired)}</span>
        <span className="chart-span">last {age(span)}</span>
      </figcaption>
    </figure>
  );
}

/** A line that keeps its height until it changes. */
function steps(
  points: readonly Point[],
  now: number,
  x: (at: number) => number,
  y: (point: Point) => number,
): string {
  let path = "";
  for (const [index, point] of points.entries()) {
    const until = x(points[index + 1]?.at ?? now);
    path += `${path ? "L" : "M"}${x(point.at).toFixed(1)} ${y(point).toFixed(1)}`;
    path += `L${until.toFixed(1)} ${y(point).toFixed(1)}`;
  }
  return path;
}
