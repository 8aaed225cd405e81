// What is shown of much: scales of charts, waves of rollouts.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { lookOf, partsOf } from "../src/lib/look.ts";
import { scaleOf } from "../src/lib/scale.ts";
import { stepsOf, waveWords } from "../src/lib/waves.ts";
import { thinned } from "../src/state/store.ts";
import type { ClusterEvent, Instance, Workload } from "../src/state/types.ts";
import { openTab, Sandbox, startBrowser, until, violations, visit } from "./kit.ts";

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

describe("a rollout of two hundred", { timeout: 300_000 }, () => {
  it("is seen as a whole, and in waves", async () => {
    const sandbox = await Sandbox.start(4, ["--runtime", "simulated"]);
    const browser = await startBrowser();
    try {
      const wanted = (image: string) => ({
        ...{ name: "web", image, replicas: 200 },
        strategy: { maxSurge: "10%", drainSeconds: 0 },
      });
      await sandbox.api.send("POST", "/deploy", wanted("demo:1"));
      await sandbox.api.ready("web", 200);
      const { page, complaints } = await openTab(browser, sandbox.api.url, { still: true });
      await visit(page, "#/workloads/web");
      const key = page.getByRole("list", { name: "How many are how" });
      await key.getByText("200 ready").waitFor();
      await sandbox.api.send("POST", "/deploy", wanted("demo:2"));
      await key.getByText(/[0-9]+ ready, of the old revision/).waitFor();
      const steps = page.getByRole("list", { name: "The rollout's steps" });
      await steps
        .getByText(/[0-9]+ started/)
        .first()
        .waitFor();
      await page.getByRole("button", { name: "Pause", exact: true }).click();
      const pause = page.getByRole("dialog").getByRole("button", { name: "Pause", exact: true });
      await pause.click();
      await page.getByText("Paused between revision 1 and 2").waitFor();
      assert.ok((await steps.getByRole("listitem").count()) <= 10);
      // Each tile leads to its instance, by keyboard from one to the next.
      const old = page.getByRole("group", { name: "Instances of revision 1" }).getByRole("link");
      assert.ok((await old.count()) > 100);
      await old.first().focus();
      await page.keyboard.press("ArrowRight");
      const focused = await page.locator(":focus").getAttribute("data-instance");
      assert.equal(focused, await old.nth(1).getAttribute("data-instance"));
      assert.deepEqual(await violations(page), []);
      await page.setViewportSize({ width: 390, height: 800 });
      await until("the page to fit", async () => {
        const root = "document.documentElement";
        return page.evaluate<boolean>(`${root}.scrollWidth <= ${root}.clientWidth`);
      });
      assert.deepEqual(complaints, []);
    } finally {
      await browser.close();
      await sandbox.stop();
    }
  });

  it("says whose logs wait until others are read", async () => {
    const sandbox = await Sandbox.start(2, ["--runtime", "simulated"]);
    const browser = await startBrowser();
    try {
      const spec = { name: "web", image: "demo:1", replicas: 60 };
      await sandbox.api.send("POST", "/deploy", spec);
      await sandbox.api.ready("web", 60);
      const { page, complaints } = await openTab(browser, sandbox.api.url, { still: true });
      await visit(page, "#/logs/web");
      await page.getByText("10 more instances are not read: at most 50 are at once").waitFor();
      await page.getByRole("button", { name: "Follow" }).click();
      await page.getByText(/ · to its end$/).waitFor();
      assert.equal(await page.getByText("not read: at most").count(), 0);
      const buttons = page.getByRole("group", { name: "Instances shown" }).getByRole("button");
      assert.equal(await buttons.count(), 60);
      assert.deepEqual(await violations(page), []);
      assert.deepEqual(complaints, []);
    } finally {
      await browser.close();
      await sandbox.stop();
    }
  });
});
