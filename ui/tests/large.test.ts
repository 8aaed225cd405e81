// What is shown of much: scales of charts, waves of rollouts.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { lookOf, partsOf } from "../src/lib/look.ts";
import { scaleOf } from "../src/lib/scale.ts";
import { stepsOf, waveWords } from "../src/lib/waves.ts";
import { thinned } from "../src/state/store.ts";
import type { ClusterEvent, Instance, Workload } from "../src/state/types.ts";

describe("the scale of a chart", () => {
  it("begins at nothing where that shows what changes", () => {
    assert.deepEqual(scaleOf(0, 0), { from: 0, to: 1 });
    assert.deepEqual(scaleOf(3, 5), { from: 0, to: 5 });
    assert.deepEqual(scaleOf(0, 200), { from: 0, to: 200 });
    assert.deepEqual(scaleOf(200, 200), { from: 0, to: 200 }, "nothing changes");
  });

  it("shows one of two hundred", () => {
    const { from, to } = scaleOf(199, 201);
    assert.ok(from > 150 && from < 199 && to > 201 && to < 250);
    // A tenth of the height at least.
    assert.ok(1 / (to - from) > 0.1);
  });
});

describe("a long series", () => {
  it("loses points, but neither its ends nor its worst", () => {
    const points = Array.from({ length: 600 }, (_, at) => ({ at, desired: 200, ready: 199 }));
    points[101] = { at: 101, desired: 200, ready: 7 };
    const left = thinned(points);
    assert.ok(left.length < 500, String(left.length));
    assert.equal(left[0]?.at, 0);
    assert.deepEqual(left.slice(-300), points.slice(-300), "what is new stays as it is");
    assert.equal(Math.min(...left.map((point) => point.ready)), 7);
    assert.ok(left.every((point, index) => index === 0 || point.at > (left[index - 1]?.at ?? 0)));
  });
});

const event = (seq: number, ms: number, kind: string): ClusterEvent => ({
  ...{ seq, kind, message: "", workload: "web" },
  at: new Date(1_700_000_000_000 + ms).toISOString(),
});

describe("the steps of a rollout", () => {
  const events = [
    event(1, 0, "RolloutStarted"),
    event(2, 10, "InstanceReady"),
    event(3, 5_000, "RolloutStarted"),
    event(4, 5_010, "InstanceOrdered"),
    event(5, 5_010, "InstanceOrdered"),
    event(6, 5_200, "InstanceRunning"),
    event(7, 5_900, "InstanceReady"),
    event(8, 5_910, "InstanceStopping"),
    event(9, 9_000, "InstanceOrdered"),
    event(10, 9_100, "RolloutPaused"),
  ];

  it("are told one by one where they are few", () => {
    const seqs = stepsOf(events, false).map((step) => "event" in step && step.event.seq);
    assert.deepEqual(seqs, [3, 4, 5, 7, 8, 9, 10]);
  });

  it("are told by waves where they are many", () => {
    const steps = stepsOf(events, true).map((step) =>
      "event" in step ? step.event.seq : waveWords(step),
    );
    assert.deepEqual(steps, [3, "2 started, 1 became ready, 1 told to stop", 9, 10]);
  });

  it("are cut where one wave follows upon another without a pause", () => {
    const many = Array.from({ length: 100 }, (_, at) => event(at + 2, at * 200, "InstanceReady"));
    const steps = stepsOf([event(1, 0, "RolloutStarted"), ...many], true);
    assert.ok(steps.length >= 4 && steps.length <= 6, String(steps.length));
  });
});

describe("the parts of a bar", () => {
  const instance = (id: string, more: Partial<Instance>): Instance => ({
    ...{ id, containerId: "", workloadId: "web", replica: 0, revision: 2, nodeId: "n" },
    ...{ image: "", phase: "running", health: "healthy", ready: true, restarts: 0 },
    ...more,
  });
  const workload = { revision: 2, desired: 6, done: 0 } as Workload;

  it("say how each is, what is left of the old, and what is missing", () => {
    const those = [
      instance("a", {}),
      instance("b", { revision: 1 }),
      instance("c", { ready: false, health: "unhealthy" }),
      instance("d", { phase: "pending", ready: false }),
      instance("e", { phase: "exited", exitCode: 1, ready: false }),
      instance("f", { lost: true }),
    ];
    assert.equal(lookOf(those[2] as Instance), "unhealthy");
    assert.deepEqual(partsOf(workload, those), [
      { part: "ready", many: 1 },
      { part: "old", many: 1 },
      { part: "unhealthy", many: 1 },
      { part: "pending", many: 1 },
      { part: "lost", many: 1 },
      { part: "missing", many: 1 },
    ]);
  });
});
