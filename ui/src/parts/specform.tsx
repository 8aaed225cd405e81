// The form of a spec. Each field knows its name in the spec, so that what the
// scheduler says about `ports[0].hostPort` is shown there.

import { createContext, type ReactNode, useContext, useId } from "react";
import type { Draft, DraftMount, DraftPort } from "../lib/draft.ts";
import type { Refusal } from "../state/http.ts";

const Trouble = createContext<Refusal | undefined>(undefined);

interface Props {
  draft: Draft;
  change: (draft: Draft) => void;
  refusal: Refusal | undefined;
  fixedName: boolean;
}

type Texts = { [K in keyof Draft]: Draft[K] extends string ? K : never }[keyof Draft];

export function SpecForm({ draft, change, refusal, fixedName }: Props) {
  const set = (part: Partial<Draft>) => change({ ...draft, ...part });
  const text = (key: Texts) => ({
    value: draft[key],
    change: (value: string) => set({ [key]: value }),
  });
  const setPort = (index: number, part: Partial<DraftPort>) =>
    set({ ports: draft.ports.map((port, at) => (at === index ? { ...port, ...part } : port)) });
  const setMount = (index: number, part: Partial<DraftMount>) =>
    set({
      mounts: draft.mounts.map((mount, at) => (at === index ? { ...mount, ...part } : mount)),
    });
  const setEnv = (index: number, part: Partial<{ key: string; value: string }>) =>
    set({ env: draft.env.map((pair, at) => (at === index ? { ...pair, ...part } : pair)) });
  const advanced = [
    "pullPolicy",
    "stopGracePeriodSeconds",
    "minReadySeconds",
    "strategy",
    "command",
    "args",
  ].some((field) => refusal?.field?.startsWith(field));
  const limited = ["resources", "logs", "mounts", "envFrom"].some((field) =>
    refusal?.field?.startsWith(field),
  );
  return (
    <Trouble.Provider value={refusal}>
      <fieldset className="panel form">
        <legend>What</legend>
        <Field
          path="name"
          label="Name"
          hint="small letters, digits and -"
          {...text("name")}
          readOnly={fixedName}
        />
        <Field path="image" label="Image" hint="as for docker run" {...text("image")} wide />
        <Field path="replicas" label="Replicas" hint="how many" numeric {...text("replicas")} />
        <Choice
          path="restartPolicy"
          label="When one ends"
          {...text("restartPolicy")}
          options={[
            ["always", "start it again"],
            ["onFailure", "start it again if it failed"],
            ["never", "leave it"],
          ]}
        />
      </fieldset>

      <fieldset className="panel form">
        <legend>Ports</legend>
        <ListTrouble path="ports" />
        {draft.ports.map((port, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: rows have no other identity
          <div className="row" key={index}>
            <Field
              path={`ports[${index}].containerPort`}
              label="In the container"
              numeric
              value={port.containerPort}
              change={(value) => setPort(index, { containerPort: value })}
            />
            <Field
              path={`ports[${index}].hostPort`}
              label="On the node"
              hint="Docker picks"
              numeric
              value={port.hostPort}
              change={(value) => setPort(index, { hostPort: value })}
            />
            <Choice
              path={`ports[${index}].protocol`}
              label="Protocol"
              value={port.protocol}
              change={(protocol) => setPort(index, { protocol })}
              options={[
                ["tcp", "tcp"],
                ["udp", "udp"],
              ]}
            />
            <Check
              path={`ports[${index}].fixed`}
              label="exactly that one"
              checked={port.fixed}
              change={(fixed) => setPort(index, { fixed })}
            />
            <Remove
              what={`port ${index + 1}`}
              onClick={() => set({ ports: draft.ports.filter((_, at) => at !== index) })}
            />
          </div>
        ))}
        <button
          type="button"
          className="button small"
          onClick={() =>
            set({
              ports: [
                ...draft.ports,
                { containerPort: "", hostPort: "", protocol: "tcp", fixed: false },
              ],
            })
          }
        >
          + port
        </button>
      </fieldset>

      <fieldset className="panel form">
        <legend>Health</legend>
        <Check
          path="healthCheck"
          label="Probe it over HTTP"
          checked={draft.probe}
          change={(probe) => set({ probe })}
        />
        {draft.probe && (
          <>
            <Field
              path="healthCheck.port"
              label="Port"
              hint="a container port"
              numeric
              {...text("port")}
            />
            <Field path="healthCheck.path" label="Path" hint="/" {...text("path")} />
            <Field
              path="healthCheck.intervalSeconds"
              label="Every (s)"
              hint="5"
              numeric
              {...text("intervalSeconds")}
            />
            <Field
              path="healthCheck.timeoutSeconds"
              label="Time-out (s)"
              hint="2"
              numeric
              {...text("timeoutSeconds")}
            />
            <Field
              path="healthCheck.failureThreshold"
              label="Unhealthy after"
              hint="3 failures"
              numeric
              {...text("failureThreshold")}
            />
            <Field
              path="healthCheck.startupSeconds"
              label="May take to start (s)"
              hint="60"
              numeric
              {...text("startupSeconds")}
            />
          </>
        )}
      </fieldset>

      <fieldset className="panel form">
        <legend>Environment</legend>
        {!draft.env.some(isNameless) && <ListTrouble path="env" />}
        {draft.env.map((pair, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: rows have no other identity
          <div className="row" key={index}>
            <Field
              path={isNameless(pair) ? "env" : `env.${pair.key.trim()}`}
              label="Variable"
              value={pair.key}
              change={(key) => setEnv(index, { key })}
            />
            <Field
              path={`env.${pair.key}.value`}
              label="Value"
              value={pair.value}
              change={(value) => setEnv(index, { value })}
              wide
            />
            <Remove
              what={`variable ${index + 1}`}
              onClick={() => set({ env: draft.env.filter((_, at) => at !== index) })}
            />
          </div>
        ))}
        <button
          type="button"
          className="button small"
          onClick={() => set({ env: [...draft.env, { key: "", value: "" }] })}
        >
          + variable
        </button>
      </fieldset>

      <details className="panel" open={limited || undefined}>
        <summary>Limits, and what it sees of its node</summary>
        <div className="form">
          <Field
            path="resources.memory"
            label="Memory, at most"
            hint="no limit; 256Mi"
            {...text("memory")}
          />
          <Field path="resources.cpus" label="CPUs, at most" hint="no limit" {...text("cpus")} />
          <Field
            path="resources.pids"
            label="Processes, at most"
            hint="4096"
            numeric
            {...text("pids")}
          />
          <Field path="logs.maxSize" label="Size of a log file" hint="10M" {...text("maxSize")} />
          <Field
            path="logs.maxFiles"
            label="Log files kept"
            hint="3"
            numeric
            {...text("maxFiles")}
          />
          <Lines
            path="envFrom"
            label="Variables from files in the nodes' --env-dir, one name per line"
            {...text("envFrom")}
          />
          <ListTrouble path="mounts" />
          {draft.mounts.map((mount, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows have no other identity
            <div className="row" key={index}>
              <Field
                path={`mounts[${index}].source`}
                label="On the node"
                hint="where --allow-mount allows it"
                value={mount.source}
                change={(source) => setMount(index, { source })}
              />
              <Field
                path={`mounts[${index}].target`}
                label="In the container"
                value={mount.target}
                change={(target) => setMount(index, { target })}
              />
              <Check
                path={`mounts[${index}].readOnly`}
                label="read only"
                checked={mount.readOnly}
                change={(readOnly) => setMount(index, { readOnly })}
              />
              <Remove
                what={`mount ${index + 1}`}
                onClick={() => set({ mounts: draft.mounts.filter((_, at) => at !== index) })}
              />
            </div>
          ))}
          <button
            type="button"
            className="button small"
            onClick={() =>
              set({ mounts: [...draft.mounts, { source: "", target: "", readOnly: true }] })
            }
          >
            + mount
          </button>
        </div>
      </details>

      <details className="panel" open={advanced || undefined}>
        <summary>More: command, change and stop</summary>
        <div className="form">
          <Lines
            path="command"
            label="Command, one word per line or a JSON array"
            {...text("command")}
          />
          <Lines path="args" label="Arguments, one per line or a JSON array" {...text("args")} />
          <Choice
            path="pullPolicy"
            label="Pull the image"
            {...text("pullPolicy")}
            options={[
              ["ifNotPresent", "if it is not there"],
              ["always", "always"],
              ["never", "never"],
            ]}
          />
          <Field
            path="stopGracePeriodSeconds"
            label="To stop (s)"
            hint="10"
            numeric
            {...text("stopGracePeriodSeconds")}
          />
          <Field
            path="minReadySeconds"
            label="Healthy before ready (s)"
            hint="0"
            numeric
            {...text("minReadySeconds")}
          />
          <Field
            path="strategy.maxSurge"
            label="More than wanted, at most"
            hint="1, or 25%"
            {...text("maxSurge")}
          />
          <Field
            path="strategy.maxUnavailable"
            label="Fewer than wanted, at most"
            hint="0, or 25%"
            {...text("maxUnavailable")}
          />
          <Field
            path="strategy.progressDeadlineSeconds"
            label="To get ready, else abort (s)"
            hint="60"
            numeric
            {...text("progressDeadlineSeconds")}
          />
          <Field
            path="strategy.drainSeconds"
            label="Serve on before stop (s)"
            hint="1"
            numeric
            {...text("drainSeconds")}
          />
        </div>
      </details>
    </Trouble.Provider>
  );
}

/** What is said about it is said about `env` as such: it has no path of its own. */
const isNameless = ({ key }: { key: string }): boolean => key.trim() === "";

interface FieldProps {
  path: string;
  label: string;
  value: string;
  change: (value: string) => void;
  hint?: string;
  numeric?: boolean;
  wide?: boolean;
  readOnly?: boolean;
}

/** What the scheduler says about this very field, or about something within it. */
function useTrouble(path: string, within = false): string | undefined {
  const refusal = useContext(Trouble);
  const field = refusal?.field;
  const isMeant = field === path || (within && field?.startsWith(`${path}[`));
  return isMeant ? refusal?.message : undefined;
}

const invalid = (id: string, trouble: string | undefined) => ({
  "aria-invalid": trouble !== undefined,
  ...(trouble ? { "aria-describedby": `${id}-trouble` } : {}),
});

function Said({ id, trouble }: { id: string; trouble: string | undefined }) {
  if (!trouble) return null;
  return (
    <span className="field-trouble" id={`${id}-trouble`}>
      {trouble}
    </span>
  );
}

function Labelled(props: {
  path: string;
  label: string;
  wide?: boolean | undefined;
  within?: boolean;
  children: (given: {
    id: string;
    "aria-invalid": boolean;
    "aria-describedby"?: string;
  }) => ReactNode;
}) {
  const { path, label, wide, within, children } = props;
  const trouble = useTrouble(path, within);
  const id = useId();
  return (
    <div className={wide ? "field wide" : "field"} data-field={path}>
      <label htmlFor={id}>{label}</label>
      {children({ id, ...invalid(id, trouble) })}
      <Said id={id} trouble={trouble} />
    </div>
  );
}

function Field({ path, label, value, change, hint, numeric, wide, readOnly }: FieldProps) {
  return (
    <Labelled path={path} label={label} wide={wide}>
      {(given) => (
        <input
          {...given}
          value={value}
          placeholder={hint}
          readOnly={readOnly}
          inputMode={numeric ? "numeric" : "text"}
          spellCheck={false}
          autoCapitalize="none"
          autoComplete="off"
          onChange={(event) => change(event.target.value)}
        />
      )}
    </Labelled>
  );
}

function Lines({ path, label, value, change }: FieldProps) {
  return (
    <Labelled path={path} label={label} wide within>
      {(given) => (
        <textarea
          {...given}
          rows={2}
          value={value}
          spellCheck={false}
          onChange={(event) => change(event.target.value)}
        />
      )}
    </Labelled>
  );
}

function Choice(props: FieldProps & { options: readonly (readonly [string, string])[] }) {
  const { path, label, value, change, options } = props;
  return (
    <Labelled path={path} label={label}>
      {(given) => (
        <select {...given} value={value} onChange={(event) => change(event.target.value)}>
          {options.map(([option, words]) => (
            <option key={option} value={option}>
              {words}
            </option>
          ))}
        </select>
      )}
    </Labelled>
  );
}

function Check(props: {
  path: string;
  label: string;
  checked: boolean;
  change: (checked: boolean) => void;
}) {
  const { path, label, checked, change } = props;
  const trouble = useTrouble(path);
  const id = useId();
  return (
    <div className="check-field" data-field={path}>
      <label className="check">
        <input
          type="checkbox"
          checked={checked}
          {...invalid(id, trouble)}
          onChange={(event) => change(event.target.checked)}
        />
        {label}
      </label>
      <Said id={id} trouble={trouble} />
    </div>
  );
}

/** What is wrong with a list as such: it is too long, say. */
function ListTrouble({ path }: { path: string }) {
  const id = useId();
  const trouble = useTrouble(path);
  return trouble ? (
    <div className="list-trouble" data-field={path}>
      <Said id={id} trouble={trouble} />
    </div>
  ) : null;
}

function Remove({ what, onClick }: { what: string; onClick: () => void }) {
  return (
    <button
      type="button"
      className="button quiet small"
      aria-label={`Remove ${what}`}
      onClick={onClick}
    >
      <span aria-hidden="true">×</span>
    </button>
  );
}
