/**
 * What a leader remembers besides the store: when it saw things happen, on its monotonic clock.
 * Lost with leadership; a new leader counts delays and graces from its own beginning, so it acts
 * later than the old one would have, never sooner.
 */
import { isTerminal, type Task } from '../store/objects.ts'
import type { StoreView } from '../store/view.ts'
import { isUnassigned } from './plan.ts'

/** How long a failure speaks against a node: 5 minutes (swarmkit `nodeinfo.go`). */
export const FAILURE_WINDOW_MS = 5 * 60 * 1000

/** Failures remembered for one service on one node; more change nothing. */
export const FAILURES_KEPT_MAX = 50

/** Times and tallies of one leadership. */
export class Sightings {
  readonly beganMs: number
  /** Task id → when it was seen to have ended. */
  readonly #ended = new Map<string, number>()
  /** Task id → when it was first seen running. */
  readonly #running = new Map<string, number>()
  /** Task id → when it was first seen at all. */
  readonly #known = new Map<string, number>()
  /** Tasks that had ended before this leader began. */
  readonly #inherited = new Set<string>()
  /** Tasks that wait for a node. */
  readonly #pending = new Set<string>()
  /** `<node>/<service>/<spec version>` → when tasks failed there. */
  readonly #failures = new Map<string, number[]>()
  /** Node id → address given last there. */
  readonly #lastAddress = new Map<string, string>()

  constructor(beganMs: number) {
    this.beganMs = beganMs
  }

  /** Takes in all tasks there are. */
  begin(store: StoreView): void {
    for (const task of store.list('tasks')) {
      if (isTerminal(task.status.state)) this.#inherited.add(task.id)
      this.onTask(undefined, task, this.beganMs)
    }
  }

  /** Takes in one committed change of a task. */
  onTask(before: Task | undefined, after: Task | undefined, nowMs: number): void {
    if (after === undefined) {
      if (before !== undefined) this.#forget(before.id)
      return
    }
    const { id } = after
    if (!this.#known.has(id)) this.#known.set(id, nowMs)
    if (isUnassigned(after)) this.#pending.add(id)
    else this.#pending.delete(id)
    if (after.status.state === 'running' && !this.#running.has(id)) this.#running.set(id, nowMs)
    if (isTerminal(after.status.state) && !this.#ended.has(id)) {
      this.#ended.set(id, nowMs)
      if (!this.#inherited.has(id)) this.#noteFailure(after, nowMs)
    }
  }

  endedMs(taskId: string): number {
    return this.#ended.get(taskId) ?? this.beganMs
  }

  knownMs(taskId: string): number {
    return this.#known.get(taskId) ?? this.beganMs
  }

  runningMs(taskId: string): number | undefined {
    return this.#running.get(taskId)
  }

  wasInherited(taskId: string): boolean {
    return this.#inherited.has(taskId)
  }

  pendingIds(): readonly string[] {
    return [...this.#pending].toSorted()
  }

  /** Failures of this service version on that node in the last five minutes. */
  recentFailures(nodeId: string, task: Task, nowMs: number): number {
    if (this.#failures.size === 0) return 0
    const times = this.#failures.get(failureKey(nodeId, task)) ?? []
    return times.filter((time) => nowMs - time < FAILURE_WINDOW_MS).length
  }

  lastAddress(nodeId: string): string | undefined {
    return this.#lastAddress.get(nodeId)
  }

  noteAddress(nodeId: string, address: string): void {
    this.#lastAddress.set(nodeId, address)
  }

  #noteFailure(task: Task, nowMs: number): void {
    if (task.status.state !== 'failed' && task.status.state !== 'rejected') return
    const key = failureKey(task.nodeId, task)
    const times = this.#failures.get(key) ?? []
    const recent = times.filter((time) => nowMs - time < FAILURE_WINDOW_MS)
    this.#failures.set(key, [...recent, nowMs].slice(-FAILURES_KEPT_MAX))
  }

  #forget(taskId: string): void {
    this.#ended.delete(taskId)
    this.#running.delete(taskId)
    this.#known.delete(taskId)
    this.#inherited.delete(taskId)
    this.#pending.delete(taskId)
  }
}

function failureKey(nodeId: string, task: Task): string {
  return `${nodeId}/${task.serviceId}/${task.specVersion}`
}
