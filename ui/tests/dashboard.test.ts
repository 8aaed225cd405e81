// What a person does with the dashboard, from the first run to the last deletion:
// one cluster, one story, in order.

import assert from "node:assert/strict";
import { after, before, describe } from "node:test";
import type { Browser, Page } from "playwright-core";
import {
  dockerKill,
  hello,
  IMAGE,
  IMAGE_2,
  openTab,
  Sandbox,
  shot,
  startBrowser,
  story,
  type Tab,
  until,
  violations,
  visit,
} from "./kit.ts";

let sandbox: Sandbox;
let browser: Browser;
let tab: Tab;
let page: Page;
/** Looks on in the dark all the time. */
let dark: Tab;

before(async () => {
  [sandbox, browser] = await Promise.all([Sandbox.start(3), startBrowser()]);
  tab = await openTab(browser, sandbox.api.url);
  page = tab.page;
  dark = await openTab(browser, sandbox.api.url, { dark: true });
  await visit(dark.page, "#/");
});

after(async () => {
  await browser?.close();
  await sandbox?.stop();
});

const then = story();
const row = (name: string) => page.locator(`[data-workload="${name}"]`);
const dialog = () => page.getByRole("dialog");

/** Pictures of a place that shows something, light and dark. */
async function pictures(
  name: string,
  place: string,
  shows: string,
  prepare: (page: Page) => Promise<void> = async () => {},
) {
  for (const [look, shown] of Object.entries({ light: tab, dark })) {
    await visit(shown.page, place);
    await shown.page.locator(shows).first().waitFor();
    await prepare(shown.page);
    await shot(shown.page, `${name}-${look}`);
  }
}

/** Presses a button and then the one in the dialog that asks. */
async function doIt(button: string, confirm: string): Promise<void> {
  await page.getByRole("button", { name: button, exact: true }).first().click();
  await dialog().getByRole("button", { name: confirm, exact: true }).click();
  await dialog().waitFor({ state: "detached" });
}

describe("the dashboard", { timeout: 600_000 }, () => {
  then("welcomes who comes first, with one command and one button", async () => {
    await visit(page, "#/");
    await page.getByText("Nothing is wanted yet.").waitFor();
    await page.getByText(/deploy -f examples\/hello\.json/).waitFor();
    await page.getByRole("link", { name: "Deploy the sample, hello" }).click();
    assert.equal(await page.getByLabel("Image", { exact: true }).inputValue(), IMAGE);
  });

  then("shows what is wrong with a spec at the field, as the scheduler says it", async () => {
    await visit(page, "#/deploy?sample=hello");
    await page.getByLabel("In the container").fill("99999");
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    const field = page.locator('[data-field="ports[0].containerPort"]');
    await field.locator(".field-trouble").waitFor();
    assert.match(await field.innerText(), /99999/);
    assert.equal(await field.locator("input").getAttribute("aria-invalid"), "true");

    await page.getByLabel("In the container").fill("8080");
    await page.getByLabel("Name", { exact: true }).fill("Hello!");
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    const name = page.locator('[data-field="name"] .field-trouble');
    await name.waitFor();
    assert.match(await name.innerText(), /Hello!/);

    // What is no number is not swallowed: the scheduler says so, there.
    await page.getByLabel("Name", { exact: true }).fill("hello");
    await page.getByLabel("Replicas").fill("many");
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    await page.locator('[data-field="replicas"] .field-trouble').waitFor();
    const found: unknown[] = await sandbox.api.get("/workloads");
    assert.deepEqual(found, [], "nothing was deployed");

    // The same as JSON.
    await page.getByLabel("Replicas").fill("3");
    await page.getByRole("button", { name: "JSON" }).click();
    const json = page.getByLabel("The spec, as JSON");
    await json.fill((await json.inputValue()).replace('"image"', '"imagee"'));
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    const alert = page.getByRole("alert");
    await alert.waitFor();
    assert.match(await alert.innerText(), /imagee.*image/s);
  });

  then("deploys by form", async () => {
    await visit(page, "#/deploy");
    await page.getByLabel("Name", { exact: true }).fill("hello");
    await page.getByLabel("Image", { exact: true }).fill(IMAGE);
    await page.getByLabel("Replicas").fill("3");
    await page.getByRole("button", { name: "+ port" }).click();
    await page.getByLabel("In the container").fill("8080");
    await page.getByLabel("Probe it over HTTP").check();
    await page.getByLabel("Port", { exact: true }).fill("8080");
    await page.getByLabel("Path").fill("/healthz");
    await page.getByLabel("Every (s)").fill("1");
    await page.getByRole("button", { name: "+ variable" }).click();
    await page.getByLabel("Variable", { exact: true }).fill("HELLO_LOG_REQUESTS");
    await page.getByLabel("Value", { exact: true }).fill("1");
    await page.getByText("More: command, change and stop").click();
    await page.getByLabel("To stop (s)").fill("2");
    await page.getByLabel("Serve on before stop (s)").fill("0");
    // The command line that does the same.
    assert.match(await page.locator(".command code").innerText(), /ctl .*deploy -f - <<'END'/);
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    await page.waitForURL(/#\/workloads\/hello$/);
    await page.locator(".fact-ready dd").getByText("3", { exact: true }).waitFor();
    const spec = (await sandbox.api.get<{ spec: object }>("/workloads/hello")).spec;
    assert.partialDeepStrictEqual(spec, {
      replicas: 3,
      env: { HELLO_LOG_REQUESTS: "1" },
      ports: [{ containerPort: 8080 }],
      healthCheck: { path: "/healthz", port: 8080, intervalSeconds: 1 },
      stopGracePeriodSeconds: 2,
      strategy: { drainSeconds: 0 },
    });
    // Its endpoints are links that answer.
    const address = await page.locator(".endpoints a").first().getAttribute("href");
    assert.ok(address);
    assert.equal((await fetch(address)).status, 200);
  });

  then("shows a killed container go, and another one take its place", async () => {
    await visit(page, "#/");
    const before = (await sandbox.api.instances("hello")).map((instance) => instance.id);
    const victim = before[0] ?? "";
    await page.locator(`[data-instance="${victim}"].look-ready`).waitFor();
    await dockerKill(victim);
    await page.locator(`[data-instance="${victim}"].look-failed`).waitFor();
    const successor = await until("a successor", async () =>
      (await sandbox.api.instances("hello")).find((instance) => !before.includes(instance.id)),
    );
    await page.locator(`[data-instance="${successor.id}"].look-ready`).waitFor();
    await page.getByText("Everything is as wanted.").waitFor();
    // And why, in the decisions of just now.
    await page
      .getByLabel("What was decided just now")
      .getByText(new RegExp(`starting ${successor.id} .*replacing ${victim}`))
      .waitFor();
  });

  then("is reached by keyboard alone", async () => {
    await page.goto("about:blank");
    await visit(page, "#/");
    const ids = await page
      .locator("[data-node='node-1'] [data-instance]")
      .evaluateAll((all) => all.map((one) => (one as HTMLElement).dataset.instance ?? ""));
    await page.keyboard.press("Tab");
    assert.match(await page.locator(":focus").innerText(), /Skip to/);
    for (let presses = 0; ; presses += 1) {
      assert.ok(presses < 60, "the tiles are in the order of the Tab key");
      await page.keyboard.press("Tab");
      const focused = await page.locator(":focus").getAttribute("data-instance");
      if (focused !== null && focused === ids[0]) break;
    }
    await page.keyboard.press("Enter");
    await page.waitForURL(new RegExp(`#/instances/${ids[0]}$`));
    await page.getByRole("heading", { level: 1, name: ids[0] }).waitFor();
    await visit(page, "#/workloads/hello");
    await page.getByRole("button", { name: "Delete" }).focus();
    await page.keyboard.press("Enter");
    await dialog().waitFor();
    await page.keyboard.press("Escape");
    await dialog().waitFor({ state: "detached" });
    await sandbox.api.ready("hello", 3);
  });

  then("scales, and teaches the command", async () => {
    await visit(page, "#/workloads/hello");
    await page.getByRole("button", { name: "Scale", exact: true }).click();
    await page.getByLabel("Replicas wanted").fill("5");
    await dialog().getByText("2 more will be started.").waitFor();
    assert.match(
      await dialog().locator("code").innerText(),
      /^kube-lite ctl --server \S+ scale hello 5$/,
    );
    await dialog().getByRole("button", { name: "Copy the command" }).click();
    await dialog().getByText("copied").first().waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, /scale hello 5$/);
    await dialog().getByRole("button", { name: "Scale", exact: true }).click();
    await page.locator(".fact-wanted dd").getByText("5", { exact: true }).waitFor();
    await page.locator(".fact-ready dd").getByText("5", { exact: true }).waitFor();
    assert.equal(await page.locator(".place").count(), 5);
    // Too many: what the scheduler says is shown, and the dialog stays.
    await page.getByRole("button", { name: "Scale", exact: true }).click();
    await page.getByLabel("Replicas wanted").fill("1000000");
    await dialog().getByRole("button", { name: "Scale", exact: true }).click();
    await dialog()
      .getByRole("alert")
      .getByText(/1000000/)
      .waitFor();
    await dialog().getByRole("button", { name: "Cancel" }).click();
  });

  then("rolls in waves, is paused and goes on", async () => {
    await visit(page, "#/workloads/hello");
    await page.getByRole("button", { name: "Roll", exact: true }).click();
    await page.getByLabel("Image", { exact: true }).fill(IMAGE_2);
    assert.match(
      await dialog().locator("code").innerText(),
      /rollout start hello --image kube-lite\/hello:v2$/,
    );
    await dialog().getByRole("button", { name: "Roll", exact: true }).click();
    await page.getByText("Rolling from revision 1 to 2").waitFor();
    const waves = page.locator(".waves");
    // Old and new at once.
    await waves.getByRole("heading", { name: /revision 1 [1-9]/ }).waitFor();
    await waves.getByRole("heading", { name: /revision 2 [1-9]/ }).waitFor();
    await page.getByText(/[1-5] of 5 updated/).waitFor();
    await doIt("Pause", "Pause");
    await page.getByText("Paused between revision 1 and 2").waitFor();
    // A cluster with a rollout that waits for somebody is not as wanted.
    await visit(page, "#/");
    await page.getByText("All replicas are there; 1 rollout is not finished.").waitFor();
    await page.locator("[data-workload='hello'].standing-moving").waitFor();
    await pictures("rollout", "#/workloads/hello", ".waves");
    await doIt("Resume", "Resume");
    await page.getByText("Revision 2 is everywhere").waitFor();
    const now = await sandbox.api.instances("hello");
    const live = now.filter((instance) => instance.phase === "running");
    assert.ok(live.length === 5 && live.every((instance) => instance.revision === 2));
  });

  then("shows the diff of revisions, and goes back", async () => {
    await visit(page, "#/workloads/hello");
    const first = page.locator(".revisions > li").filter({ hasText: "r1" });
    await first.getByRole("button", { name: "Diff" }).click();
    await page.locator(".diff .removed").getByText("hello:v1").waitFor();
    await page.locator(".diff .added").getByText("hello:v2").waitFor();
    await first.getByRole("button", { name: "Go back to it" }).click();
    assert.match(await dialog().locator("code").innerText(), /rollout undo hello --to 1$/);
    await dialog().getByRole("button", { name: "Roll back" }).click();
    await page.getByText("Revision 1 is everywhere").waitFor();
    await page.locator(".revisions li.current").getByText("r1").waitFor();
    await sandbox.api.ready("hello", 5);
  });

  then("aborts a rollout", async () => {
    const spec = hello("slow", 2, { healthCheck: { path: "/healthz", port: 8080 } });
    await sandbox.api.send("POST", "/deploy", spec);
    await sandbox.api.ready("slow", 2);
    await visit(page, "#/workloads/slow");
    await sandbox.api.send("POST", "/deploy", { ...spec, env: { HELLO_UNHEALTHY: "1" } });
    await page.getByText("Rolling from revision 1 to 2").waitFor();
    await doIt("Abort", "Abort");
    await page.getByText("The rollout to revision 2 was aborted").waitFor();
    await sandbox.api.ready("slow", 2);
  });

  then("restarts", async () => {
    const before = (await sandbox.api.instances("slow")).map((instance) => instance.id);
    await visit(page, "#/workloads/slow");
    await doIt("Restart", "Restart");
    await page.getByText("Revision 3 is everywhere").waitFor();
    await sandbox.api.ready("slow", 2);
    const now = await sandbox.api.instances("slow");
    const live = now.filter((instance) => instance.phase === "running");
    assert.ok(live.every((instance) => !before.includes(instance.id)));
  });

  then("follows the logs of several instances, searches and pauses", async () => {
    await visit(page, "#/logs/hello");
    const log = page.getByRole("region", { name: "Log lines" });
    await log
      .getByText(/hello hello-r1-\w+ version v1 listening/)
      .first()
      .waitFor();
    const buttons = page.getByRole("group", { name: "Instances shown" }).getByRole("button");
    await until("all five", async () => (await buttons.count()) >= 5);
    // Live, and which stream.
    const { endpoints } = await sandbox.api.get<{
      endpoints: { address: string; instanceId: string }[];
    }>("/discover/hello");
    const [one, two] = endpoints;
    assert.ok(one && two);
    await fetch(`http://${one.address}/log?line=from-the-one`);
    await fetch(`http://${two.address}/log?line=from-the-two&stream=stderr`);
    await log.getByText("from-the-one", { exact: true }).waitFor();
    const wrong = log.locator(".log-line.stderr").filter({ hasText: "from-the-two" });
    await wrong.waitFor();
    await page.getByLabel("Stream").selectOption("stderr");
    await log.getByText("from-the-one", { exact: true }).waitFor({ state: "detached" });
    await wrong.waitFor();
    await page.getByLabel("Stream").selectOption("");
    // Search.
    await page.getByLabel("With").fill("FROM-THE");
    await until("only what fits", async () => {
      const lines = await log.locator(".log-line").allInnerTexts();
      return lines.length === 2 && lines.every((line) => line.includes("from-the"));
    });
    assert.equal(await log.locator("mark").count(), 2);
    await page.getByLabel("With").fill("");
    // One instance less.
    await page.getByRole("button", { name: one.instanceId }).click();
    await log.getByText("from-the-one", { exact: true }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: one.instanceId }).click();
    // Paused, what comes waits.
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    await fetch(`http://${one.address}/log?line=said-meanwhile`);
    await page.getByRole("button", { name: /Go on \([\d,]+ new\)/ }).waitFor();
    assert.equal(await log.getByText("said-meanwhile", { exact: true }).count(), 0);
    await page.getByRole("button", { name: /Go on/ }).click();
    await log.getByText("said-meanwhile", { exact: true }).waitFor();
    await shot(page, "logs-light");
    await visit(dark.page, "#/logs/hello");
    await dark.page.locator(".log-line").first().waitFor();
    await shot(dark.page, "logs-dark");
    // A new instance's log joins by itself.
    await sandbox.api.send("PUT", "/workloads/hello/scale", { replicas: 6 });
    await sandbox.api.ready("hello", 6);
    const newest = (await sandbox.api.instances("hello")).map((instance) => instance.id);
    await until("the sixth", async () => {
      const shown = await buttons.allInnerTexts();
      return newest.every((id) => shown.includes(id));
    });
  });

  then("tells the timeline, live and of one workload", async () => {
    await visit(page, "#/timeline");
    const events = page.getByLabel("Events, newest first");
    await events.getByText(/scaled hello from 5 to 6/).waitFor();
    await sandbox.api.send("PUT", "/workloads/hello/scale", { replicas: 5 });
    await events.getByText(/scaled hello from 6 to 5/).waitFor();
    await page.getByRole("combobox", { name: "Of" }).selectOption("slow");
    await page.waitForURL(/workload=slow/);
    await until("only slow", async () => {
      const lines = await events.locator(".event-text").allInnerTexts();
      return lines.length > 0 && lines.every((line) => line.includes("slow"));
    });
    await page.getByLabel("With").fill("aborted");
    await events.getByText(/the rollout of slow to revision 2 is aborted/).waitFor();
    await page.getByRole("img", { name: /^slow: 2 of 2 ready now/ }).waitFor();
  });

  then("drains a node, and lets it work again", async () => {
    await visit(page, "#/nodes/node-2");
    await doIt("Drain", "Drain");
    await visit(page, "#/");
    const card = page.locator("[data-node='node-2']");
    await card.getByText("drained", { exact: true }).waitFor();
    await until("nothing to run there", async () => {
      const all = await sandbox.api.get<{ nodeId: string; phase: string }[]>("/instances");
      return all.every((one) => one.nodeId !== "node-2" || one.phase !== "running");
    });
    await page.getByText("Everything is as wanted.").waitFor();
    await visit(page, "#/nodes/node-2");
    await doIt("Uncordon", "Uncordon");
    await page.getByText("alive", { exact: true }).waitFor();
    await doIt("Cordon", "Cordon");
    await page.locator("h1").getByText("cordoned").waitFor();
    await doIt("Uncordon", "Uncordon");
    await page.locator("h1").getByText("alive").waitFor();
  });

  then("shows why something cannot run", async () => {
    await sandbox.api.send("POST", "/deploy", {
      name: "crashing",
      image: IMAGE,
      env: { HELLO_EXIT_CODE: "3" },
    });
    await visit(page, "#/");
    await row("crashing")
      .getByText(/exited with code 3/)
      .waitFor();
    await page.getByText("1 of 8 replicas is not there yet.").waitFor();
    await visit(page, "#/workloads/crashing");
    await page.getByLabel("Why it is not as wanted").getByText("BackOff").waitFor();
  });

  then("looks well in light and dark, wide and narrow", async () => {
    await sandbox.api.send("POST", "/deploy", hello("api", 6, { image: IMAGE_2 }));
    await sandbox.api.ready("api", 6);
    await pictures("cluster", "#/", "[data-node] [data-instance]");
    await pictures("timeline", "#/timeline", ".event");
    for (const { page } of [tab, dark]) await page.setViewportSize({ width: 1000, height: 1080 });
    await pictures("deploy", "#/deploy/hello", "form", async (page) => {
      await page.getByText("Limits, and what it sees of its node").click();
      await page.getByLabel("Memory").waitFor();
    });
    for (const { page } of [tab, dark]) await page.setViewportSize({ width: 390, height: 800 });
    await pictures("phone", "#/", "[data-node] [data-instance]");
    for (const { page } of [tab, dark]) await page.setViewportSize({ width: 1280, height: 800 });
  });

  then("is for everybody: no violation that axe knows, light or dark, wide or narrow", async () => {
    const some = (await sandbox.api.instances("hello"))[0]?.id ?? "";
    const places = ["#/", "#/workloads/hello", "#/workloads/crashing", "#/workloads/none"];
    places.push("#/nodes/node-1", `#/instances/${some}`, "#/timeline", "#/logs", "#/logs/hello");
    places.push("#/deploy?sample=hello", "#/nowhere");
    const wrong: string[] = [];
    for (const dark of [false, true]) {
      const width = dark ? 390 : 1280;
      const shown = await openTab(browser, sandbox.api.url, { dark, width, still: true });
      for (const place of places) {
        await visit(shown.page, place);
        const found = await violations(shown.page);
        wrong.push(...found.map((one) => `${place}${dark ? " (dark)" : ""}: ${one}`));
        const wide = await shown.page.evaluate(
          () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
        );
        if (wide > 0) wrong.push(`${place}: ${wide} px wider than the screen`);
      }
      await visit(shown.page, "#/workloads/hello");
      for (const button of ["Scale", "Roll", "Delete"]) {
        await shown.page.getByRole("button", { name: button, exact: true }).click();
        await shown.page.getByRole("dialog").waitFor();
        wrong.push(...(await violations(shown.page)).map((one) => `dialog ${button}: ${one}`));
        await shown.page.keyboard.press("Escape");
      }
      assert.deepEqual(shown.complaints, []);
      await shown.context.close();
    }
    assert.deepEqual(wrong, []);
  });

  then("switches between dark and light, and remembers", async () => {
    await visit(page, "#/");
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    const change = page.getByRole("button", { name: /^Colours:/ });
    await change.click(); // light
    await change.click(); // dark
    const dark = await ground();
    assert.notEqual(dark, light);
    await page.reload();
    await visit(page, "#/");
    assert.equal(await ground(), dark);
    await change.click(); // as the system has it
    assert.equal(await ground(), light);
  });

  then("deletes only when asked twice", async () => {
    await visit(page, "#/workloads/hello");
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    await dialog().getByText("This cannot be undone").waitFor();
    await dialog().getByRole("button", { name: "Cancel" }).click();
    await sandbox.api.ready("hello", 5);
    await doIt("Delete", "Delete hello");
    await page.waitForURL(/#\/$/);
    await row("hello").waitFor({ state: "detached" });
    await until("nothing of it to be left", async () => {
      const all = await sandbox.api.get<{ workloadId: string }[]>("/instances");
      return all.every((one) => one.workloadId !== "hello");
    });
    await until(
      "no tile to be left",
      async () => (await page.locator(".chip", { hasText: "hello" }).count()) === 0,
    );
  });

  then("did all that without an error, a broken rule or a word to anybody else", () => {
    assert.deepEqual([...tab.complaints, ...dark.complaints], []);
  });
});
