// When things go wrong: the scheduler is killed, and instances are hostile.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { Browser } from "playwright-core";
import type { Changes, ClusterEvent, ClusterState } from "../src/state/types.ts";
import {
  Fleet,
  hello,
  IMAGE,
  openTab,
  Relay,
  startBrowser,
  until,
  violations,
  visit,
} from "./kit.ts";

let fleet: Fleet;
let browser: Browser;

before(async () => {
  [fleet, browser] = await Promise.all([Fleet.start(2), startBrowser()]);
  await fleet.api.send("POST", "/deploy", hello("web", 2));
  await fleet.api.ready("web", 2);
});

after(async () => {
  await browser?.close();
  await fleet?.stop();
});

/** Text that would do something if it were taken for markup. */
const EVIL = `"><img src=x onerror="window.pwned=1"><script>window.pwned=2</script>`;

describe("in trouble", { timeout: 300_000 }, () => {
  it("says when the scheduler is gone, and is live again when it is back", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url);
    await visit(page, "#/");
    await page.locator("[data-instance].look-ready").first().waitFor();
    await page.getByText("live", { exact: true }).waitFor();
    await fleet.killScheduler();
    const banner = page.getByRole("alert").getByText("The scheduler is not heard.");
    await banner.waitFor();
    // What was seen last stays.
    assert.ok((await page.locator("[data-instance]").count()) >= 2);
    await fleet.startScheduler();
    await banner.waitFor({ state: "detached" });
    await page.getByText("live", { exact: true }).waitFor();
    await page.getByText("Everything is as wanted.").waitFor();
    // And it is truly live.
    await fleet.api.send("PUT", "/workloads/web/scale", { replicas: 3 });
    await page.locator("[data-workload='web'] .workload-count").getByText("3/3").waitFor();
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("goes on where it was, without losing or doubling an event", async () => {
    const relay = await Relay.start(fleet.api.url);
    const { page, context } = await openTab(browser, relay.url);
    try {
      await visit(page, "#/timeline");
      const shown = page.getByLabel("Events, newest first").locator(".event-text");
      await shown.first().waitFor();
      relay.cut();
      await page.getByRole("alert").getByText("The scheduler is not heard.").waitFor();
      const before = await shown.count();
      await fleet.api.send("PUT", "/workloads/web/scale", { replicas: 2 });
      await fleet.api.ready("web", 2);
      assert.equal(await shown.count(), before, "it was truly cut off");
      const answered = page.waitForResponse(/\/stream\?since=\d+$/);
      relay.mend();
      await answered;
      await shown.getByText(/scaled web from 3 to 2/).waitFor();
      assert.match(relay.passed, /"resumed":true/, "it goes on, and does not begin anew");
      await until("the page to tell what the scheduler tells", async () => {
        const lines = (await (await fetch(`${fleet.api.url}/events`)).text()).trim().split("\n");
        const told = lines.map((line) => (JSON.parse(line) as ClusterEvent).message);
        // As many as the page shows at first.
        assert.deepEqual(await shown.allTextContents(), told.reverse().slice(0, 150));
        return true;
      });
    } finally {
      await context.close();
      relay.stop();
    }
  });

  it("says soon that nothing is heard, also when the connection only hangs", async () => {
    const relay = await Relay.start(fleet.api.url);
    const { page, context } = await openTab(browser, relay.url);
    try {
      await visit(page, "#/");
      await page.getByText("live", { exact: true }).waitFor();
      const before = relay.connections;
      relay.hang();
      const banner = page.getByRole("alert").getByText("The scheduler is not heard.");
      await banner.waitFor();
      assert.equal(relay.connections, before, "it is said before anything else is tried");
      // From when it was heard, and not from when that was noticed.
      const old = (await banner.locator("xpath=..").innerText()).match(/is (\d+)s old/)?.[1];
      assert.ok(Number(old) >= 3, `${old}`);
      // What is not known of the nodes is not said of them.
      assert.equal(await page.getByText(/silent \d+s/).count(), 0);
      await banner.waitFor({ state: "detached" });
      await page.getByText("live", { exact: true }).waitFor();
      assert.ok(relay.connections > before);
    } finally {
      await context.close();
      relay.stop();
    }
  });

  it("says what it leaves out", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url, { still: true });
    const { cluster } = await fleet.api.get<{ cluster: string }>("/health");
    const state = hostileState(cluster);
    const [event] = state.events;
    const [workload] = state.workloads;
    assert.ok(event && workload);
    workload.reasons = Array.from({ length: 20 }, (_, replica) => ({
      ...{ reason: "NoRoom", message: `replica ${replica} has no place`, replica },
    }));
    workload.desired = 200;
    const body = (name: string, value: object) =>
      `id: 1\nevent: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
    const events = Array.from({ length: 130 }, (_, at) => ({ ...event, seq: 1000 + at }));
    await page.route("**/stream*", (route) =>
      route.fulfill({
        contentType: "text/event-stream",
        body:
          body("state", { ...state, events, instancesTotal: 20_001 }) +
          body("changes", { eventsMissed: true }),
      }),
    );
    await page.route("**/history", (route) =>
      route.fulfill({ status: 500, json: { reason: "Internal", error: "The disk is on fire." } }),
    );
    const name = encodeURIComponent(EVIL);
    await visit(page, "#/");
    await page.getByText("This page shows 1 of 20,001 instances").waitFor();
    await page.goto(`/#/workloads/${name}`);
    await page.getByText("and at least 12 more").waitFor();
    await page.getByText("The disk is on fire.").waitFor();
    await page.getByRole("link", { name: "70 older events" }).waitFor();
    await page.goto(`/#/nodes/${name}`);
    await page.getByRole("link", { name: "30 older events" }).click();
    await page.getByText("This is all since").waitFor();
    await page.getByText("The 999 events before that are not kept here.").waitFor();
    await page.getByText("Some events in between are missing").waitFor();
    assert.equal(await page.getByLabel("With").inputValue(), EVIL);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("says why the scheduler does not let it see anything, and does not ask again", async () => {
    const { page, context } = await openTab(browser, fleet.api.url);
    let asked = 0;
    await page.route("**/stream*", (route) => {
      asked += 1;
      return route.fulfill({
        status: 403,
        json: { reason: "WrongKindOfCaller", error: "This is for people only." },
      });
    });
    await page.clock.install();
    await visit(page, "#/");
    const banner = page.getByRole("alert");
    await banner.getByText("This is for people only.").waitFor();
    assert.match(await banner.innerText(), /kube-lite ctl; see docs\/security\.md/);
    const before = asked;
    await page.clock.runFor(60_000);
    await page.evaluate("fetch('/health').then((response) => response.status)");
    assert.equal(asked, before, "it asked again");
    await context.close();
  });

  it("says why it has to wait, and comes in by itself", async () => {
    const { page, context } = await openTab(browser, fleet.api.url);
    const error = "64 pages are watching already; close one, or wait.";
    await page.route("**/stream*", (route) =>
      route.fulfill({ status: 503, json: { reason: "TooManyWatchers", error } }),
    );
    await visit(page, "#/");
    const banner = page.getByRole("alert");
    await banner.getByText(error).waitFor();
    await page.unroute("**/stream*");
    await page.getByText("live", { exact: true }).waitFor();
    await banner.waitFor({ state: "detached" });
    await context.close();
  });

  it("shows what should be known about what was done", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url, { still: true });
    const warnings = ["The first thing.", `The second: ${EVIL}`];
    await page.route("**/workloads/web/scale", (route) =>
      route.fulfill({ json: { id: "web", message: "", warnings } }),
    );
    await visit(page, "#/workloads/web");
    await page.getByRole("button", { name: "Scale", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: "Scale", exact: true }).click();
    await dialog.getByText("Something you should know").waitFor();
    assert.deepEqual(await dialog.getByRole("listitem").allTextContents(), warnings);
    assert.deepEqual(await dialog.getByRole("button").allTextContents(), ["Close"]);
    assert.deepEqual(await violations(page), []);
    await dialog.getByRole("button", { name: "Close" }).click();
    await dialog.waitFor({ state: "detached" });
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("shows whatever the scheduler says about a spec at the field", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url, { still: true });
    let field = "";
    await page.route("**/deploy", (route) =>
      route.request().method() === "POST"
        ? route.fulfill({
            status: 400,
            json: { reason: "InvalidField", field, error: `wrong: ${field}` },
          })
        : route.continue(),
    );
    const spec = {
      ...{ name: "web", image: IMAGE, command: ["a"], args: ["a", "b"] },
      ...{ env: { "": "1", GOOD: "2" }, ports: [{ containerPort: 80, fixed: true }] },
      ...{ envFrom: [{ file: "a" }], mounts: [{ source: "/a", target: "/b", readOnly: true }] },
      ...{ healthCheck: { port: 80 }, resources: { memory: "1Ki" }, logs: { maxFiles: 0 } },
    };
    const fill = async (spec: object) => {
      await visit(page, "#/");
      await visit(page, "#/deploy");
      await page.getByRole("button", { name: "JSON" }).click();
      await page.getByLabel("The spec, as JSON").fill(JSON.stringify(spec));
      await page.getByRole("button", { name: "Form", exact: true }).click();
    };
    const isShown = async (at: string) => {
      await page.getByRole("button", { name: "Deploy", exact: true }).click();
      const trouble = page.locator(`[data-field="${at}"] .field-trouble`);
      await trouble.getByText(`wrong: ${field}`, { exact: true }).waitFor();
      assert.equal(await page.locator(".field-trouble").count(), 1, field);
    };
    await fill(spec);
    for (const [about, at] of [
      ["name", "name"],
      ["command", "command"],
      ["command[0]", "command"],
      ["args[1]", "args"],
      ["env", "env"],
      ["env.GOOD", "env.GOOD"],
      ["envFrom", "envFrom"],
      ["envFrom[0].file", "envFrom"],
      ["ports", "ports"],
      ["ports[0].containerPort", "ports[0].containerPort"],
      ["ports[0].fixed", "ports[0].fixed"],
      ["mounts", "mounts"],
      ["mounts[0].target", "mounts[0].target"],
      ["mounts[0].readOnly", "mounts[0].readOnly"],
      ["healthCheck.port", "healthCheck.port"],
      ["resources.memory", "resources.memory"],
      ["logs.maxFiles", "logs.maxFiles"],
    ] as const) {
      field = about;
      await isShown(at);
    }
    // There is no variable without a name: then it is about all of them.
    await fill({ ...spec, env: { GOOD: "2" } });
    field = "env";
    await isShown("env");
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("says when somebody else has changed what is being edited", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url, { still: true });
    await visit(page, "#/deploy/web");
    const notice = page.getByText("web was changed by somebody else since you began.");
    await page.getByLabel("Image", { exact: true }).fill("mine:1");
    assert.equal(await notice.count(), 0);
    await fleet.api.send("PUT", "/workloads/web/scale", { replicas: 3 });
    await notice.waitFor();
    assert.equal(await page.getByLabel("Image", { exact: true }).inputValue(), "mine:1");
    assert.deepEqual(await violations(page), []);
    await page.getByRole("button", { name: "Begin anew" }).click();
    await notice.waitFor({ state: "detached" });
    assert.equal(await page.getByLabel("Replicas").inputValue(), "3");
    assert.equal(await page.getByLabel("Image", { exact: true }).inputValue(), IMAGE);
    await fleet.api.send("PUT", "/workloads/web/scale", { replicas: 2 });
    await fleet.api.ready("web", 2);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("takes what an instance writes for text", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url);
    await visit(page, "#/logs/web");
    const { endpoints } = await fleet.api.get<{ endpoints: { address: string }[] }>(
      "/discover/web",
    );
    const address = endpoints[0]?.address ?? "";
    await fetch(`http://${address}/log?line=${encodeURIComponent(EVIL)}`);
    await page.getByRole("region", { name: "Log lines" }).getByText(EVIL).waitFor();
    assert.equal(await page.evaluate("window.pwned"), undefined);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("takes hostile text for text in every field there is", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url);
    const { cluster } = await fleet.api.get<{ cluster: string }>("/health");
    const state = hostileState(cluster);
    const changes: Changes = { events: state.events, workloads: state.workloads };
    const message = (name: string, value: object) =>
      `id: 1\nevent: ${name}\ndata: ${JSON.stringify(value)}\n\n`;
    await page.route("**/stream*", (route) =>
      route.fulfill({
        contentType: "text/event-stream",
        body: message("state", state) + message("changes", changes),
      }),
    );
    await page.route("**/history", (route) =>
      route.fulfill({
        json: [
          {
            ...{ revision: 1, at: EVIL, by: EVIL, why: EVIL, outcome: EVIL },
            ...{ current: false, head: false, template: { image: EVIL } },
          },
          {
            ...{ revision: 2, at: EVIL, by: EVIL, why: EVIL },
            ...{
              current: true,
              head: true,
              template: { image: `${EVIL}2`, env: { [EVIL]: EVIL } },
            },
          },
        ],
      }),
    );
    const name = encodeURIComponent(EVIL);
    const places = ["#/", `#/workloads/${name}`, `#/nodes/${name}`, `#/instances/${name}`];
    places.push("#/timeline", `#/logs/${name}`, `#/deploy/${name}`);
    for (const place of places) {
      await visit(page, place);
      const seen = await until(`the text at ${place}`, async () => {
        const text = await page.locator("main").innerText();
        const values = await page
          .locator("main input, main textarea")
          .evaluateAll((all) => all.map((one) => (one as HTMLInputElement).value));
        return [text, ...values].join("\n").includes("onerror=") && text;
      });
      assert.ok(seen);
      const alive = await page.evaluate(
        () =>
          document.querySelectorAll("main img, main script, main iframe, main [onerror]").length,
      );
      assert.equal(alive, 0, place);
      const links = await page
        .locator("a")
        .evaluateAll((all) => all.map((one) => (one as HTMLAnchorElement).protocol));
      assert.ok(
        links.every((protocol) => protocol === "http:"),
        `${place}: ${links}`,
      );
    }
    await visit(page, `#/workloads/${name}`);
    await page.getByRole("button", { name: "Diff" }).click();
    await page.locator(".diff").waitFor();
    assert.equal(await page.evaluate("window.pwned"), undefined);
    assert.deepEqual(complaints, []);
    await context.close();
  });

  it("is served with the rules that keep it so", async () => {
    const html = { accept: "text/html,application/xhtml+xml" };
    const page = await fetch(`${fleet.api.url}/`, { headers: html });
    const policy = page.headers.get("content-security-policy") ?? "";
    for (const rule of [
      "default-src 'none'",
      "script-src 'self'",
      "connect-src 'self'",
      "frame-ancestors 'none'",
      "base-uri 'none'",
      "require-trusted-types-for 'script'",
    ]) {
      assert.ok(policy.includes(rule), `${rule} in ${policy}`);
    }
    assert.ok(!/unsafe|\*/.test(policy), policy);
    assert.equal(page.headers.get("x-content-type-options"), "nosniff");
    assert.equal(page.headers.get("cache-control"), "no-cache");
    assert.equal(page.headers.get("access-control-allow-origin"), null);
    const text = await page.text();
    const script = text.match(/\/assets\/[\w.-]+\.js/)?.[0];
    assert.ok(script, text);
    const asset = await fetch(fleet.api.url + script);
    assert.match(asset.headers.get("cache-control") ?? "", /immutable/);
    assert.match(asset.headers.get("content-type") ?? "", /^text\/javascript/);
    const etag = page.headers.get("etag") ?? "";
    const again = await fetch(`${fleet.api.url}/`, { headers: { ...html, "if-none-match": etag } });
    assert.equal(again.status, 304);
    // To those who do not ask for a page, text.
    const plain = await fetch(`${fleet.api.url}/`, { headers: { accept: "*/*" } });
    assert.match(plain.headers.get("content-type") ?? "", /^text\/plain/);
  });

  // The last one: afterwards there is a node less.
  it("shows a node die, and forgets it with what should be known about that", async () => {
    const { page, complaints, context } = await openTab(browser, fleet.api.url, { still: true });
    const all = await fleet.api.instances("web");
    const victim = all.find((instance) => instance.phase === "running");
    assert.ok(victim);
    const id = victim.nodeId;
    const card = page.locator(`[data-node="${id}"]`);
    await visit(page, "#/");
    await card.locator(`[data-instance="${victim.id}"].look-ready`).waitFor();
    await fleet.killAgent(id);
    await page.locator(`.trouble-dead[data-node="${id}"]`).waitFor();
    await card.getByText("dead", { exact: true }).waitFor();
    await card.locator(`[data-instance="${victim.id}"].look-lost`).waitFor();
    assert.deepEqual(await violations(page), []);
    await card.getByRole("link", { name: id, exact: true }).click();
    await page.locator("h1").getByText("dead").waitFor();
    await page.getByRole("button", { name: "Forget", exact: true }).click();
    const dialog = page.getByRole("dialog");
    await dialog.getByRole("button", { name: `Forget ${id}` }).click();
    // Its containers run on, and the scheduler says so.
    await dialog.getByText("Something you should know").waitFor();
    await dialog.getByRole("listitem").getByText(victim.id).waitFor();
    await dialog.getByRole("button", { name: "Close" }).click();
    await page.waitForURL(/#\/$/);
    await card.waitFor({ state: "detached" });
    await fleet.api.ready("web", 2);
    await page.getByText("Everything is as wanted.").waitFor();
    assert.deepEqual(complaints, []);
    await context.close();
  });
});

/** A cluster in which everything that is text is hostile. */
function hostileState(cluster: string): ClusterState {
  const rollout = { from: 1, to: 2, state: "rolling", updated: 0, total: 1 } as const;
  return {
    ...{ cluster, epoch: 1, version: EVIL, instancesTotal: 1, resumed: false },
    nodes: [
      {
        ...{ id: EVIL, address: `javascript:window.pwned=3//${EVIL}`, status: "alive" },
        ...{ schedulable: true, lastHeartbeatSecondsAgo: 1, instances: 1 },
        ...{ docker: { state: "ok", forMs: 1, message: EVIL }, version: EVIL, message: EVIL },
      },
    ],
    workloads: [
      {
        spec: {
          ...{ name: EVIL, image: EVIL, command: [EVIL], args: [EVIL], env: { [EVIL]: EVIL } },
          ...{ ports: [{ containerPort: 80 }], healthCheck: { path: EVIL, port: 80 } },
        },
        ...{ revision: 2, desired: 1, running: 1, ready: 1, pending: 0, waiting: 0, done: 0 },
        ...{ stopping: 0, restarts: 0 },
        reasons: [{ reason: EVIL, message: EVIL, instanceId: EVIL, nodeId: EVIL }],
        rollout: { ...rollout, why: EVIL, waitingFor: EVIL },
      },
    ],
    instances: [
      {
        ...{ id: EVIL, containerId: EVIL, workloadId: EVIL, replica: 0, revision: 2 },
        ...{ nodeId: EVIL, image: EVIL, phase: "running", health: "healthy", ready: true },
        ...{ ip: EVIL, restarts: 0, startedAt: EVIL, reason: EVIL, message: EVIL },
        ...{ replaces: EVIL, runningForMs: 1000 },
        ports: [{ containerPort: 80, hostPort: 80, protocol: "tcp" }],
      },
    ],
    events: [
      {
        ...{ seq: 1, at: EVIL, kind: EVIL, workload: EVIL, node: EVIL, instance: EVIL },
        message: EVIL,
      },
    ],
  };
}
