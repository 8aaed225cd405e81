// What the scheduler says, word for word: src/model/view.rs, instance.rs and spec.rs.

export type Phase = "pending" | "pulling" | "created" | "running" | "exited" | "failed";
export type Health = "unknown" | "starting" | "healthy" | "unhealthy";

export interface PortMapping {
  containerPort: number;
  hostPort?: number;
  protocol?: "tcp" | "udp";
  fixed?: boolean;
}

export interface HealthCheck {
  path?: string;
  port: number;
  intervalSeconds?: number;
  timeoutSeconds?: number;
  failureThreshold?: number;
  startupSeconds?: number;
}

export interface Template {
  image: string;
  command?: string[];
  args?: string[];
  env?: Record<string, string>;
  ports?: PortMapping[];
  restartPolicy?: "always" | "onFailure" | "never";
  healthCheck?: HealthCheck;
  pullPolicy?: "ifNotPresent" | "always" | "never";
  stopGracePeriodSeconds?: number;
  resources?: { memory?: number | string; cpus?: number; pids?: number };
  logs?: { maxSize?: number | string; maxFiles?: number };
  mounts?: { source: string; target: string; readOnly?: boolean }[];
  envFrom?: { file: string }[];
}

export type Extent = number | string;

export interface Spec extends Template {
  name: string;
  replicas?: number;
  minReadySeconds?: number;
  strategy?: {
    maxSurge?: Extent;
    maxUnavailable?: Extent;
    progressDeadlineSeconds?: number;
    drainSeconds?: number;
  };
}

export interface Why {
  reason: string;
  message: string;
  replica?: number;
  instanceId?: string;
  nodeId?: string;
  forMs?: number;
}

export interface Rollout {
  from: number;
  to: number;
  state: "rolling" | "paused" | "aborting" | "done" | "aborted";
  updated: number;
  total: number;
  why?: string;
  waitingFor?: string;
}

export interface Workload {
  spec: Spec;
  revision: number;
  desired: number;
  running: number;
  ready: number;
  pending: number;
  waiting: number;
  done: number;
  stopping: number;
  restarts: number;
  reasons: Why[];
  rollout: Rollout | null;
}

export interface Instance {
  id: string;
  containerId: string;
  workloadId: string;
  replica: number;
  revision: number;
  nodeId: string;
  image: string;
  phase: Phase;
  health: Health;
  ready: boolean;
  stopping?: boolean;
  lost?: boolean;
  exitCode?: number;
  ip?: string;
  ports?: { containerPort: number; hostPort: number; protocol: "tcp" | "udp" }[];
  restarts: number;
  startedAt?: string;
  reason?: string;
  message?: string;
  replaces?: string;
  runningForMs?: number;
}

export interface ClusterNode {
  id: string;
  address: string;
  status: "unknown" | "alive" | "dead";
  schedulable: boolean;
  draining?: boolean;
  lastHeartbeatSecondsAgo: number | null;
  instances: number;
  docker: { state: "ok" | "hung" | "away"; forMs: number; daemon?: string; message?: string };
  version: string;
  message?: string;
}

export interface ClusterEvent {
  seq: number;
  at: string;
  kind: string;
  workload?: string;
  node?: string;
  instance?: string;
  message: string;
}

export interface Revision {
  revision: number;
  at: string;
  by: string;
  why: string;
  /** It was last asked for once more: by an undo, say. */
  again?: { at: string; by: string; why: string };
  current: boolean;
  head: boolean;
  outcome?: string;
  template: Template;
}

/** The first message of `GET /stream`. */
export interface ClusterState {
  cluster: string;
  epoch: number;
  version: string;
  nodes: ClusterNode[];
  workloads: Workload[];
  instances: Instance[];
  instancesTotal: number;
  resumed: boolean;
  events: ClusterEvent[];
}

/** Every later message of `GET /stream`. */
export interface Changes {
  nodes?: ClusterNode[];
  nodesGone?: string[];
  heard?: string[];
  workloads?: Workload[];
  workloadsGone?: string[];
  instances?: Instance[];
  instancesGone?: string[];
  events?: ClusterEvent[];
  eventsMissed?: boolean;
}
