// A spec while it is being written: everything is text, as people type it. What
// is no number stays text, so that the scheduler can say what is wrong with it.

import type { Spec } from "../state/types.ts";

export interface DraftPort {
  containerPort: string;
  hostPort: string;
  protocol: string;
  fixed: boolean;
}

export interface DraftMount {
  source: string;
  target: string;
  readOnly: boolean;
}

export interface Draft {
  name: string;
  image: string;
  replicas: string;
  command: string;
  args: string;
  env: { key: string; value: string }[];
  ports: DraftPort[];
  restartPolicy: string;
  pullPolicy: string;
  probe: boolean;
  path: string;
  port: string;
  intervalSeconds: string;
  timeoutSeconds: string;
  failureThreshold: string;
  startupSeconds: string;
  memory: string;
  cpus: string;
  pids: string;
  maxSize: string;
  maxFiles: string;
  mounts: DraftMount[];
  envFrom: string;
  stopGracePeriodSeconds: string;
  minReadySeconds: string;
  maxSurge: string;
  maxUnavailable: string;
  progressDeadlineSeconds: string;
  drainSeconds: string;
  /** What the form has no field for, kept as it was. */
  rest: Record<string, unknown>;
}

const text = (value: unknown): string =>
  value === undefined || value === null ? "" : String(value);

/** What is typed, one word per line. */
const split = (value: string): string[] => value.split(/\r\n|\r|\n/).filter((line) => line !== "");

/** What is typed as words: one per line, or a JSON array, which can say any of them. */
function wordsOf(typed: string): unknown {
  if (!typed.trimStart().startsWith("[")) return split(typed);
  try {
    return JSON.parse(typed);
  } catch {
    // There is a program `[`. An array not yet whole is no words, and the scheduler says so.
    return /^\s*\[\s*"/.test(typed) ? typed : split(typed);
  }
}

/** Words as they are typed: one per line, where that says the same. */
function typedOf(words: unknown): string {
  if (typeof words === "string") return words;
  const plain = Array.isArray(words) ? words.join("\n") : text(words);
  const all = words ?? [];
  return JSON.stringify(wordsOf(plain)) === JSON.stringify(all) ? plain : JSON.stringify(all);
}

export function draftOf(spec: Spec): Draft {
  const {
    name,
    image,
    replicas,
    command,
    args,
    env,
    ports,
    restartPolicy,
    pullPolicy,
    healthCheck: check,
    resources,
    logs,
    mounts,
    envFrom,
    stopGracePeriodSeconds,
    minReadySeconds,
    strategy,
    ...rest
  } = spec;
  return {
    name: text(name),
    image: text(image),
    replicas: text(replicas),
    command: typedOf(command),
    args: typedOf(args),
    env: Object.entries(env ?? {}).map(([key, value]) => ({ key, value: text(value) })),
    ports: (ports ?? []).map((port) => ({
      containerPort: text(port.containerPort),
      hostPort: port.hostPort ? text(port.hostPort) : "",
      protocol: port.protocol ?? "tcp",
      fixed: port.fixed === true,
    })),
    restartPolicy: restartPolicy ?? "always",
    pullPolicy: pullPolicy ?? "ifNotPresent",
    probe: check !== undefined && check !== null,
    path: text(check?.path),
    port: text(check?.port),
    intervalSeconds: text(check?.intervalSeconds),
    timeoutSeconds: text(check?.timeoutSeconds),
    failureThreshold: text(check?.failureThreshold),
    startupSeconds: text(check?.startupSeconds),
    memory: text(resources?.memory),
    cpus: text(resources?.cpus),
    pids: text(resources?.pids),
    maxSize: text(logs?.maxSize),
    maxFiles: text(logs?.maxFiles),
    mounts: (mounts ?? []).map((mount) => ({
      source: text(mount.source),
      target: text(mount.target),
      readOnly: mount.readOnly === true,
    })),
    envFrom: (envFrom ?? []).map((from) => text(from.file)).join("\n"),
    stopGracePeriodSeconds: text(stopGracePeriodSeconds),
    minReadySeconds: text(minReadySeconds),
    maxSurge: text(strategy?.maxSurge),
    maxUnavailable: text(strategy?.maxUnavailable),
    progressDeadlineSeconds: text(strategy?.progressDeadlineSeconds),
    drainSeconds: text(strategy?.drainSeconds),
    rest,
  };
}

const isNumber = (value: string): boolean => /^-?\d+(\.\d+)?$/.test(value.trim());

/** A number if it is one. */
const typed = (value: string): number | string =>
  isNumber(value) ? Number(value.trim()) : value.trim();

/** The fields that say something. */
function said(fields: Record<string, string>): Record<string, number | string> {
  const filled = Object.entries(fields).filter(([, value]) => value.trim() !== "");
  return Object.fromEntries(filled.map(([key, value]) => [key, typed(value)]));
}

const isEmpty = (words: unknown): boolean => Array.isArray(words) && words.length === 0;

export function specOf(draft: Draft): Record<string, unknown> {
  const ports = draft.ports.map(({ containerPort, hostPort, protocol, fixed }) => ({
    ...said({ containerPort, hostPort }),
    ...(protocol === "tcp" ? {} : { protocol }),
    ...(fixed ? { fixed } : {}),
  }));
  const { path, port, intervalSeconds, timeoutSeconds, failureThreshold, startupSeconds } = draft;
  const { maxSurge, maxUnavailable, progressDeadlineSeconds, drainSeconds } = draft;
  const probe = {
    ...(path.trim() ? { path: path.trim() } : {}),
    ...said({ port, intervalSeconds, timeoutSeconds, failureThreshold, startupSeconds }),
  };
  const strategy = said({ maxSurge, maxUnavailable, progressDeadlineSeconds, drainSeconds });
  const { memory, cpus, pids, maxSize, maxFiles } = draft;
  const resources = said({ memory, cpus, pids });
  const logs = said({ maxSize, maxFiles });
  const mounts = draft.mounts.map(({ source, target, readOnly }) => ({
    source: source.trim(),
    target: target.trim(),
    ...(readOnly ? { readOnly } : {}),
  }));
  const envFrom = split(draft.envFrom).map((file) => ({ file: file.trim() }));
  const command = wordsOf(draft.command);
  const args = wordsOf(draft.args);
  const { stopGracePeriodSeconds, minReadySeconds, replicas } = draft;
  return {
    name: draft.name.trim(),
    image: draft.image.trim(),
    ...said({ replicas }),
    ...(isEmpty(command) ? {} : { command }),
    ...(isEmpty(args) ? {} : { args }),
    ...(draft.env.length > 0
      ? { env: Object.fromEntries(draft.env.map(({ key, value }) => [key.trim(), value])) }
      : {}),
    ...(ports.length > 0 ? { ports } : {}),
    ...(envFrom.length > 0 ? { envFrom } : {}),
    ...(mounts.length > 0 ? { mounts } : {}),
    ...(Object.keys(resources).length > 0 ? { resources } : {}),
    ...(Object.keys(logs).length > 0 ? { logs } : {}),
    ...(draft.restartPolicy === "always" ? {} : { restartPolicy: draft.restartPolicy }),
    ...(draft.probe ? { healthCheck: probe } : {}),
    ...(draft.pullPolicy === "ifNotPresent" ? {} : { pullPolicy: draft.pullPolicy }),
    ...said({ stopGracePeriodSeconds, minReadySeconds }),
    ...(Object.keys(strategy).length > 0 ? { strategy } : {}),
    ...draft.rest,
  };
}
