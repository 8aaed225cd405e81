// A cluster with TLS and tokens: who looks has to sign in, and may do what his token may.

import assert from "node:assert/strict";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe } from "node:test";
import type { Browser, Page } from "playwright-core";
import {
  openTab,
  SecureCluster,
  startBrowser,
  story,
  type Tab,
  until,
  violations,
  visit,
} from "./kit.ts";

let cluster: SecureCluster;
let browser: Browser;
let tab: Tab;
let page: Page;
/** All that was asked for, by anybody. */
const asked: string[] = [];
const codes: string[] = [];

before(async () => {
  [cluster, browser] = await Promise.all([SecureCluster.start(2), startBrowser()]);
  tab = await openTab(browser, cluster.url, { still: true });
  page = tab.page;
  page.on("request", (request) => asked.push(request.url()));
});

after(async () => {
  await browser?.close();
  await cluster?.stop();
});

const then = story();
const heading = () => page.getByRole("heading", { level: 1, name: "Sign in" });
const signInButton = () => page.getByRole("button", { name: "Sign in", exact: true });

async function link(who: string): Promise<string> {
  const url = await cluster.link(who);
  codes.push(url.split("/").at(-1) ?? "");
  return url;
}

/** By the link, as a person does. */
async function signIn(who: string): Promise<void> {
  await visit(page, new URL(await link(who)).hash);
  await signInButton().click();
  await page.getByRole("heading", { level: 2, name: "Nodes" }).waitFor();
}

/** What the page itself is told when it asks. */
const ask = (method: string, path: string, body?: object): Promise<string> =>
  page.evaluate(
    async ([method, path, body]) => {
      const headers = { "content-type": "application/json" };
      const init = body ? { method, headers, body } : { method };
      const response = await fetch(path as string, init as RequestInit);
      const said = await response.json().catch(() => ({}));
      return `${response.status} ${said.reason ?? ""}`;
    },
    [method, path, body && JSON.stringify(body)],
  );

describe("a cluster that wants to know who looks", { timeout: 300_000 }, () => {
  then("shows nothing but a sign-in", async () => {
    await visit(page, "#/");
    await heading().waitFor();
    await page.getByText("kube-lite ctl dashboard").waitFor();
    const text = await page.locator("body").innerText();
    assert.ok(!/n1|Nodes|Timeline/.test(text), text);
    for (const [dark, width] of [
      [false, 1280],
      [true, 390],
    ] as const) {
      const other = await openTab(browser, cluster.url, { dark, width, still: true });
      await visit(other.page, "#/workloads/web");
      await other.page.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
      assert.deepEqual(await violations(other.page), []);
      const wide = await other.page.evaluate(
        () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
      );
      assert.equal(wide, 0);
      await other.context.close();
    }
  });

  then("says when a code is none", async () => {
    assert.ok(await signInButton().isDisabled());
    await page.getByLabel("The link that it prints").fill("klc_nothing");
    await signInButton().click();
    await page.getByRole("alert").getByText("This code does not sign in").waitFor();
    await heading().waitFor();
    assert.deepEqual(await violations(page), []);
  });

  then("lets a viewer look, by a link that is good once and leaves no trace", async () => {
    await cluster.person("vera", "viewer");
    const url = await link("vera");
    await visit(page, new URL(url).hash);
    await page.getByText("The link you have followed signs you in, once.").waitFor();
    assert.ok(!page.url().includes("klc_"), page.url());
    await signInButton().click();
    await page.locator("[data-node='n1']").waitFor();
    await page.getByText("live", { exact: true }).waitFor();
    assert.match(page.url(), /#\/$/);

    const cookies = await tab.context.cookies();
    assert.equal(cookies.length, 1);
    const [cookie] = cookies;
    assert.match(cookie?.name ?? "", /^__Host-kube-lite-[0-9a-f]{12}$/);
    assert.partialDeepStrictEqual(cookie, {
      ...{ httpOnly: true, secure: true, sameSite: "Strict", path: "/" },
    });
    assert.equal(await page.evaluate("document.cookie"), "", "no script reads it");
    assert.equal(await page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})"), "{}");

    const other = await openTab(browser, cluster.url);
    await visit(other.page, new URL(url).hash);
    await other.page.getByRole("button", { name: "Sign in", exact: true }).click();
    await other.page.getByRole("alert").getByText("each is good once").waitFor();
    await other.context.close();
  });

  then("says who is signed in, and offers what that role may do", async () => {
    await page.getByRole("button", { name: "Signed in as vera, viewer" }).click();
    const menu = page.locator(".account-menu");
    await menu.getByText("You may look at everything.").waitFor();
    assert.deepEqual(await violations(page), []);
    await page.keyboard.press("Escape");
    assert.equal(await page.getByRole("link", { name: "Deploy" }).count(), 0);
    await visit(page, "#/nodes/n1");
    for (const name of ["Drain", "Cordon", "Forget"]) {
      const button = page.getByRole("button", { name, exact: true });
      assert.ok(await button.isDisabled(), name);
      assert.equal(await button.getAttribute("title"), "This takes the role admin");
    }
    await visit(page, "#/deploy");
    assert.ok(await page.getByRole("button", { name: "Deploy", exact: true }).isDisabled());
    // The page hides it; the scheduler is who refuses it.
    const spec = { name: "web", image: "demo:1" };
    assert.equal(await ask("POST", "/deploy", spec), "403 RoleTooSmall");
    assert.equal(await ask("POST", "/nodes/n1/drain"), "403 RoleTooSmall");
    assert.equal(await ask("GET", "/tokens"), "403 RoleTooSmall");
    assert.equal(await ask("POST", "/session/code"), "403 WrongKindOfCaller");
    assert.equal(await ask("GET", "/nodes"), "200 ");
  });

  then("shows the sign-in again when the token is taken back", async () => {
    const tokens = JSON.parse(await cluster.ctl(["token", "list", "-o", "json"]));
    const vera = (tokens as { id: string; name: string }[]).find(({ name }) => name === "vera");
    await visit(page, "#/timeline");
    await cluster.ctl(["token", "revoke", vera?.id ?? ""]);
    await heading().waitFor();
    await page.getByText("This token was revoked.").waitFor();
    assert.equal(await ask("GET", "/nodes"), "401 RevokedToken");
  });

  then("lets an operator deploy, by a pasted link, and goes on where one was", async () => {
    await cluster.person("otto", "operator");
    await page.getByLabel("The link that it prints").fill(await link("otto"));
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "Timeline" }).waitFor();
    await page.getByRole("link", { name: "Deploy" }).click();
    await page.getByLabel("Name", { exact: true }).fill("web");
    await page.getByLabel("Image", { exact: true }).fill("demo:1");
    await page.getByLabel("Replicas").fill("2");
    await page.getByRole("button", { name: "Deploy", exact: true }).click();
    await page.waitForURL(/#\/workloads\/web$/);
    await page.locator(".fact-ready dd").getByText("2", { exact: true }).waitFor();
    await page
      .locator(".revisions")
      .getByText(/otto \(operator\) by dashboard/)
      .waitFor();
    assert.ok(await page.getByRole("button", { name: "Scale", exact: true }).isEnabled());
    await visit(page, "#/nodes/n1");
    assert.ok(await page.getByRole("button", { name: "Drain", exact: true }).isDisabled());
  });

  then("takes no orders from another page", async () => {
    // On the same host, where cookies do not tell ports apart.
    const server = http.createServer((_, response) => {
      response.setHeader("content-type", "text/html").end("<title>evil</title>");
    });
    await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
    try {
      const evil = await tab.context.newPage();
      await evil.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
      const sent = await evil.evaluate(async (to) => {
        const outcomes: string[] = [];
        for (const path of ["/workloads/web/restart", "/session"]) {
          const init = { method: "POST", mode: "no-cors", credentials: "include" } as const;
          const done = fetch(to + path, init).then(
            ({ type }) => type,
            () => "failed",
          );
          outcomes.push(await done);
        }
        return outcomes;
      }, cluster.url);
      assert.equal(sent.length, 2);
      await evil.close();
    } finally {
      server.close();
    }
    const history = JSON.parse(await cluster.ctl(["rollout", "history", "web", "-o", "json"]));
    assert.equal((history as unknown[]).length, 1, "nothing was restarted");
  });

  then("signs out, everywhere this session was used", async () => {
    const second = await tab.context.newPage();
    await visit(second, "#/");
    await second.locator("[data-node='n1']").waitFor();
    await visit(page, "#/");
    await page.getByRole("button", { name: "Signed in as otto, operator" }).click();
    await page.getByRole("button", { name: "Sign out" }).click();
    await heading().waitFor();
    await second.getByRole("heading", { level: 1, name: "Sign in" }).waitFor();
    await second.close();
    assert.deepEqual(await tab.context.cookies(), []);
    await page.reload();
    await heading().waitFor();
  });

  then("lets an admin do it all", async () => {
    await signIn("admin");
    await page.getByRole("button", { name: /^Signed in as admin, admin/ }).waitFor();
    await visit(page, "#/nodes/n1");
    await page.getByRole("button", { name: "Drain", exact: true }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Drain", exact: true }).click();
    await page.locator("h1").getByText("drained").waitFor();
    await until("web to be elsewhere", async () => {
      const all = JSON.parse(await cluster.ctl(["instances", "-o", "json"]));
      const live = (all as { nodeId: string; phase: string }[]).filter(
        (i) => i.phase === "running",
      );
      return live.length === 2 && live.every((instance) => instance.nodeId === "n2");
    });
    await visit(page, "#/logs/web");
    await page.getByRole("region", { name: "Log lines" }).locator(".log-line").first().waitFor();
    // Anew, over one that is there.
    await visit(page, new URL(await link("admin")).hash);
    await page.getByText("You are signed in as admin (admin).").waitFor();
  });

  then("never told a code to anybody but the scheduler", () => {
    assert.ok(codes.length >= 4 && codes.every((code) => /^klc_[0-9a-f]{64}$/.test(code)));
    assert.ok(asked.length > 20 && asked.every((url) => !url.includes("klc_")));
    const output = cluster.output();
    assert.match(output, /otto \(operator\) has signed in to the dashboard from 127\.0\.0\.1/);
    assert.ok(!/kl[cs]_[0-9a-f]/.test(output), "no secret in a log");
    assert.deepEqual(tab.complaints, []);
  });
});
