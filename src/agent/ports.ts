/**
 * Executors: how this node runs a task. The agent (`agent.ts`) decides *what* should run; an
 * executor knows *how*. The task directory on disk is the truth: an executor keeps nothing in
 * memory that it cannot read again after SIGKILL of the daemon.
 */
import type { ReadyImage } from '../image/ports.ts'
import type { Task, TaskStatus } from '../store/objects.ts'
import type { Readiness } from './health/readiness.ts'

/**
 * Everything an executor needs to run one task; written to the task directory before anything
 * starts.
 */
export interface TaskPlan {
  readonly task: Task
  readonly image: ReadyImage
  /** `<data>/tasks/<task id>`, existing and empty but for what the agent wrote. */
  readonly directory: string
  /** Templates such as `{{.Task.Slot}}` are already filled in. */
  readonly hostname: string
  readonly env: readonly string[]
  readonly networking?: TaskNetworking
  /** How one knows that it is ready; absent: by having started. */
  readonly readiness?: Readiness
}

/** The container's place on its node's bridge. */
export interface TaskNetworking {
  /** `10.1.2.3/24` */
  readonly cidr: string
  readonly gateway: string
  /** Bridge device on the host. */
  readonly bridge: string
  readonly nameservers: readonly string[]
  /** Largest packet that its networks want; absent: the node's. */
  readonly mtu?: number
  /** Whether one of its networks has IPv6. */
  readonly hasIpv6?: boolean
  /** Devices with an address of their own: eth1, eth2, … */
  readonly extras?: readonly ExtraInterface[]
}

/** A device of a macvlan or ipvlan network. */
export interface ExtraInterface {
  readonly kind: 'macvlan' | 'ipvlan'
  /** Name of the host's device below it. */
  readonly parent: string
  readonly mode?: string
  /** Default: the parent's. */
  readonly mtu?: number
  /** `192.168.7.20/24` */
  readonly cidr: string
}

/** Connects tasks to the network. Implemented by `networking.ts`, and by `node/` with a kernel. */
export interface TaskNetworks {
  /** Connects a task. Returns the path of its namespace. @throws RUNTIME_FAILED */
  attach(taskId: string, networking: TaskNetworking): Promise<string>
  /** Disconnects a task. Nothing to do is no error. */
  detach(taskId: string): Promise<void>
  /** Whether this host can connect tasks at all: tries it under names of `id`. @throws */
  probe(id: string): Promise<void>
  /** Removes what all tasks shared: bridge, firewall table. */
  dispose(): Promise<void>
}

/** How a task ended. */
export interface TaskExit {
  /** 0–255; over 128 is a signal. Undefined: it ended while nobody could watch. */
  readonly exitCode: number | undefined
  readonly outOfMemory: boolean
}

/** What one health check said. */
export interface CheckResult {
  /** 0: well. Undefined: it was killed, or could not be run. */
  readonly exitCode: number | undefined
  /** What it printed, cut to 4096 bytes, or why it has no exit code. */
  readonly output: string
  /** Whether its process is gone by now: always, but for one that cannot be killed. */
  isGone(): boolean
}

/** A task's process as found on disk and in the kernel. */
export type TaskPresence =
  | { readonly state: 'absent' }
  | { readonly state: 'created'; readonly pid: number }
  | { readonly state: 'running'; readonly pid: number; readonly ports?: TaskStatus['ports'] }
  | { readonly state: 'exited'; readonly exit: TaskExit }

/** Runs tasks one way. Implemented by `oci/` (crun or runc) and `process/`. */
export interface Executor {
  readonly name: string
  /** `container`, `process`: what separates a task from its host. */
  readonly isolation: string
  /** Whether tasks have an address of their own on this node's bridge. */
  readonly hasNetwork: boolean
  /** Why this executor and not a better one, for `info` and `node inspect`. */
  readonly reason: string
  /** Mounts, namespaces, config: everything up to but not including the user's process. */
  prepare(plan: TaskPlan, options: { readonly signal: AbortSignal }): Promise<void>
  /** Starts the user's process. @throws RUNTIME_FAILED with the runtime's own words */
  start(plan: TaskPlan): Promise<{ readonly pid: number; readonly ports?: TaskStatus['ports'] }>
  /**
   * Runs the plan's health check beside the running task: in its namespaces and cgroup, as its
   * user, in its directory and environment. Never throws: what cannot be run has failed. Not to be
   * called again before the last one is gone.
   */
  check(
    directory: string,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<CheckResult>
  /** What is true now; used to adopt tasks after a restart. */
  inspect(directory: string): Promise<TaskPresence>
  /** Resolves when the task has ended. Many may wait. */
  wait(directory: string, options: { readonly signal: AbortSignal }): Promise<TaskExit>
  /** Sends the stop signal, then SIGKILL after the grace period. Resolves when it has ended. */
  stop(
    directory: string,
    options: { readonly signalName: string; readonly graceMs: number },
  ): Promise<void>
  /**
   * Frees what an ended task still holds of the node (mounts, network, cgroup); its log and exit
   * stay readable. Its address may be used again when this resolves. Idempotent.
   */
  release(directory: string): Promise<void>
  /** Kills what runs, releases, and deletes the directory. Idempotent. */
  remove(directory: string): Promise<void>
  /**
   * Removes what all tasks shared (bridge, firewall table). Only when no task is left. Idempotent.
   */
  dispose(): Promise<void>
}
