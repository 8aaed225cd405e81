// Whether a workload counts as what was wanted.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Standing, standingOf } from "../src/lib/look.ts";
import type { Rollout, Workload } from "../src/state/types.ts";

const web = (more: Partial<Workload>): Workload => ({
  ...{ spec: { name: "web", image: "nginx" }, revision: 2, desired: 2, running: 2, ready: 2 },
  ...{ pending: 0, waiting: 0, done: 0, stopping: 0, restarts: 0, reasons: [], rollout: null },
  ...more,
});

const rollout = (state: Rollout["state"]): Partial<Workload> => ({
  rollout: { from: 1, to: 2, state, updated: 1, total: 2 },
});

const because = (reason: string) => ({ ready: 1, reasons: [{ reason, message: "" }] });

describe("the standing of a workload", () => {
  const cases: [string, Partial<Workload>, Standing][] = [
    ["all there", {}, "good"],
    ["all done", { ready: 0, done: 2 }, "good"],
    ["one still to come", { ready: 1 }, "moving"],
    ["one on its way", because("Starting"), "moving"],
    ["one that fails", because("BackOff"), "bad"],
    ["one stopping", { stopping: 1 }, "moving"],
    ["rolling", rollout("rolling"), "moving"],
    ["paused", rollout("paused"), "moving"],
    ["aborting", rollout("aborting"), "moving"],
    ["rolled", rollout("done"), "good"],
    ["aborted", rollout("aborted"), "good"],
  ];
  for (const [words, more, standing] of cases) {
    it(`${words}: ${standing}`, () => assert.equal(standingOf(web(more)), standing));
  }
});
