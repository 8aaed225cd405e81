// Say what is wanted: by a form or as JSON. What is wrong, the scheduler says,
// and it is shown at the field.

import { useId, useMemo, useRef, useState } from "react";
import { ctlDeploy } from "../lib/ctl.ts";
import { type Draft, draftOf, specOf } from "../lib/draft.ts";
import { go, link, usePlace } from "../lib/router.ts";
import { Command } from "../parts/copy.tsx";
import { SpecForm } from "../parts/specform.tsx";
import { store, useWorkload } from "../state/hooks.ts";
import { ask, Refusal } from "../state/http.ts";
import { useMay } from "../state/session.ts";
import type { Spec } from "../state/types.ts";

const HELLO: Spec = {
  name: "hello",
  image: "kube-lite/hello:v1",
  replicas: 3,
  ports: [{ containerPort: 8080 }],
  healthCheck: { path: "/healthz", port: 8080 },
};

export function DeployPage({ name }: { name: string }) {
  const { params } = usePlace();
  const start = useMemo<Spec>(() => {
    const known = name ? store.workload(name)?.spec : undefined;
    if (known) return known;
    return params.get("sample") === "hello" ? HELLO : { name, image: "" };
  }, [name, params]);
  const [draft, setDraft] = useState<Draft>(() => draftOf(start));
  const [json, setJson] = useState<string>();
  const [refusal, setRefusal] = useState<Refusal>();
  const [warnings, setWarnings] = useState<{ id: string; warnings: string[] }>();
  const [busy, setBusy] = useState(false);
  const may = useMay("operator");
  /** What the form began with; somebody else may deploy meanwhile. */
  const [base, setBase] = useState(start);
  const now = useWorkload(name)?.spec;
  const overtaken = !busy && now !== undefined && JSON.stringify(now) !== JSON.stringify(base);
  const form = useRef<HTMLFormElement>(null);
  const shown = json ?? JSON.stringify(specOf(draft), null, 2);

  const toForm = () => {
    if (json === undefined) return;
    try {
      setDraft(draftOf(JSON.parse(json) as Spec));
      setJson(undefined);
      setRefusal(undefined);
    } catch (error) {
      setRefusal(new Refusal(0, "", `This is not JSON yet, so the form cannot show it: ${error}`));
    }
  };
  const submit = async (event: React.FormEvent) => {
    event.preventDefault();
    setBusy(true);
    setRefusal(undefined);
    try {
      const done = await ask<{ id: string; warnings: string[] }>("POST", "/deploy", shown);
      if (done.warnings.length > 0) setWarnings(done);
      else go(link("workloads", done.id));
    } catch (error) {
      const said = error instanceof Refusal ? error : new Refusal(0, "", String(error));
      setRefusal(said);
      requestAnimationFrame(() => {
        const wrong = form.current?.querySelector<HTMLElement>(
          "[aria-invalid=true], .list-trouble",
        );
        wrong?.focus();
        wrong?.scrollIntoView({ block: "center" });
      });
    }
    setBusy(false);
  };

  if (warnings) {
    return (
      <div className="page narrow">
        <h1>{warnings.id} is deployed</h1>
        <section className="panel" role="status">
          <p>Something you should know:</p>
          <ul className="plain">
            {warnings.warnings.map((warning) => (
              <li key={warning}>{warning}</li>
            ))}
          </ul>
          <a className="button primary" href={link("workloads", warnings.id)}>
            See it
          </a>
        </section>
      </div>
    );
  }
  return (
    <div className="page narrow">
      <header className="page-head">
        <div>
          <h1>{name ? `Edit ${name}` : "Deploy"}</h1>
          <p className="page-sub">
            {name
              ? "What changes here is rolled out a few instances at a time."
              : "Say what you want; it is started, kept running, and replaced when it fails."}
          </p>
        </div>
        {/* biome-ignore lint/a11y/useSemanticElements: two buttons are no fieldset */}
        <div className="switch" role="group" aria-label="How to say it">
          <button type="button" aria-pressed={json === undefined} onClick={toForm}>
            Form
          </button>
          <button type="button" aria-pressed={json !== undefined} onClick={() => setJson(shown)}>
            JSON
          </button>
        </div>
      </header>
      {overtaken && (
        <div className="panel overtaken" role="status">
          <p>
            {name} was changed by somebody else since you began. What you deploy from here takes
            that back.
          </p>
          <button
            type="button"
            className="button"
            onClick={() => {
              setBase(now);
              setDraft(draftOf(now));
              setJson(undefined);
              setRefusal(undefined);
            }}
          >
            Begin anew with what is wanted now
          </button>
        </div>
      )}
      <form ref={form} onSubmit={submit} noValidate>
        {json === undefined ? (
          <SpecForm draft={draft} change={setDraft} refusal={refusal} fixedName={name !== ""} />
        ) : (
          <JsonField text={json} change={setJson} refusal={refusal} />
        )}
        {refusal && (
          <p className="refusal" role="alert">
            {refusal.field && <code>{refusal.field}</code>} {refusal.message}
          </p>
        )}
        <div className="form-end">
          <button type="submit" className="button primary" disabled={busy || !may}>
            {name ? "Deploy the change" : "Deploy"}
          </button>
          <a className="button" href={name ? link("workloads", name) : link("")}>
            Cancel
          </a>
          {!may && <p className="page-why">To deploy takes the role operator.</p>}
        </div>
      </form>
      <Command text={ctlDeploy(shown)} label="the same in a terminal" />
    </div>
  );
}

function JsonField(props: {
  text: string;
  change: (text: string) => void;
  refusal: Refusal | undefined;
}) {
  const { text, change, refusal } = props;
  const id = useId();
  return (
    <div className="panel">
      <label htmlFor={id} className="field-label">
        The spec, as JSON
      </label>
      <textarea
        id={id}
        className="json"
        rows={Math.min(34, Math.max(14, text.split("\n").length + 1))}
        spellCheck={false}
        autoCapitalize="none"
        aria-invalid={refusal !== undefined}
        value={text}
        onChange={(event) => change(event.target.value)}
      />
    </div>
  );
}
