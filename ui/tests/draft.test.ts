// What the form makes of a spec, and back.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { draftOf, specOf } from "../src/lib/draft.ts";
import type { Spec } from "../src/state/types.ts";

const spec = (args: string[]): Spec => ({ name: "web", image: "nginx", args });

describe("the form", () => {
  it("gives back the words it was given", () => {
    const all = [
      ["-c", "echo a\necho b"],
      [""],
      ["-c", "", "x"],
      ["a\r\nb"],
      ["a\rb"],
      ["[", "-f", "x", "]"],
      ["[", "1", "]"],
      ['["a"]'],
      [" a ", "é"],
    ];
    for (const args of all) {
      const given = { ...spec(args), command: args };
      assert.deepEqual(specOf(draftOf(given)), given);
    }
    assert.deepEqual(specOf(draftOf(spec([]))), { name: "web", image: "nginx" });
  });

  it("shows words one per line where it can, and else as JSON", () => {
    assert.equal(draftOf(spec(["-c", "sleep 1"])).args, "-c\nsleep 1");
    assert.equal(draftOf(spec(["[", "-f", "x", "]"])).args, "[\n-f\nx\n]");
    assert.equal(draftOf(spec(["-c", "a\nb"])).args, '["-c","a\\nb"]');
  });

  it("leaves to the scheduler what is not an array of words", () => {
    const typed = (args: string) => specOf({ ...draftOf(spec([])), args }).args;
    assert.deepEqual(typed(' ["-c", "a\\nb"] '), ["-c", "a\nb"]);
    assert.equal(typed('["-c", "a'), '["-c", "a');
    assert.deepEqual(typed("[1]"), [1]);
    assert.equal(typed("[]"), undefined);
  });

  it("keeps limits, mounts and what it has no field for", () => {
    const given = {
      ...spec(["x"]),
      replicas: 2,
      resources: { memory: "256Mi", cpus: 0.5, pids: 100 },
      logs: { maxSize: "10M", maxFiles: 2 },
      mounts: [{ source: "/srv", target: "/data", readOnly: true }],
      envFrom: [{ file: "one" }, { file: "two" }],
      restartedAt: "2026-11-22T13:35:23Z",
    };
    assert.deepEqual(specOf(draftOf(given)), given);
  });
});
