/**
 * One task's life on this node, from ACCEPTED to its end and removal.
 *
 * ```
 *             image, prepare          desired RUNNING, delay over
 *  ACCEPTED ──► PREPARING ──► READY ──► STARTING ──► RUNNING ──► COMPLETE | FAILED
 *      │            │           │           │           │
 *      │            └► REJECTED | FAILED    └► FAILED   │
 *      └────────────┴───────────┴───── desired beyond RUNNING ──► SHUTDOWN
 * ```
 * A task with a health check is RUNNING when a check has passed, one that serves ports when it
 * listens on them (`health/readiness.ts`): what follows from RUNNING, as an update that goes on and
 * balancers that send connections, may rely on it. Observed states only grow. One loop walks this;
 * `update` and `remove` only change what is wanted and wake it. The loop begins with what is on
 * disk and in the kernel, so it is the same after a crash: a container that runs is adopted
 * untouched.
 * Source: swarmkit `agent/exec/controller.go`, `design/task_model.md`.
 */
import { delay } from '../base/clock.ts'
import { errorText, isSwarmError } from '../base/errors.ts'
import { compareTaskStates, isTerminal } from '../store/objects.ts'
import type { Task, TaskState, TaskStatus } from '../store/objects.ts'
import { observe, observeExit } from './observations.ts'
import type { TaskExit, TaskPlan } from './ports.ts'
import type { StartSlots } from './start-slots.ts'
import type { TaskDirectories, TaskRecord } from './task-directory.ts'
import { watchTask } from './task-watch.ts'
import type { TaskProcess, WatchParts } from './task-watch.ts'

/** Pause before an image that no reachable peer has is asked for again, milliseconds. */
export const IMAGE_RETRY_MS = 2_000

/**
 * Attempts to get an image that is only unreachable; then the task is rejected and may go
 * elsewhere.
 */
export const IMAGE_ATTEMPTS_MAX = 5

const NANOSECONDS_PER_MS = 1e6

/** What a runner needs of the agent. */
export interface RunnerParts extends WatchParts {
  readonly directories: TaskDirectories
  readonly slots: StartSlots
  /** Gets the image and fills in the templates. */
  plan(record: TaskRecord, signal: AbortSignal): Promise<TaskPlan>
  /** Resolves when the task before this one has freed its address. */
  predecessorReleased(task: Task, signal: AbortSignal): Promise<void>
  /** It is no longer wanted. */
  onUnwanted(): void
  /** Something new was observed. */
  onStatus(runner: TaskRunner): void
  /** It ended by itself; the restart policy's turn. Resolves when the decision is on disk. */
  onEnded(runner: TaskRunner): Promise<void>
}

/** Runs one task. */
export class TaskRunner {
  readonly #parts: RunnerParts
  #record: TaskRecord
  /** Aborts when the task is no longer wanted running. */
  readonly #stopping = new AbortController()
  readonly #released = Promise.withResolvers<void>()
  #removed = false
  #startedMs: number | undefined
  #wake: (() => void) | undefined

  constructor(record: TaskRecord, parts: RunnerParts) {
    this.#record = record
    this.#parts = parts
    if (isUnwanted(record.task)) this.#stopping.abort()
  }

  get id(): string {
    return this.#record.task.id
  }

  get task(): Task {
    return this.#record.task
  }

  get status(): TaskStatus {
    return this.#record.status
  }

  get record(): TaskRecord {
    return this.#record
  }

  /** Whether it is to go on; false from the moment it is to stop. */
  get isWanted(): boolean {
    return !this.#stopping.signal.aborted
  }

  /** Resolves when the task has ended and its address is free. */
  get released(): Promise<void> {
    return this.#released.promise
  }

  /** Milliseconds that its process ran; 0 when it never started, undefined when nobody watched. */
  ranMs(): number | undefined {
    if (this.#startedMs !== undefined) return this.#parts.clock.monotonicMs() - this.#startedMs
    return this.#wasStarted() ? undefined : 0
  }

  /** The store has a new version of the task. */
  update(task: Task): void {
    const { predecessorStatus: _told, ...kept } = this.#record
    this.#record = { ...kept, task, origin: 'store', seenIndex: this.#parts.store.index }
    if (isUnwanted(task) || isTerminal(task.status.state)) this.#stop()
    this.#wake?.()
  }

  /** The task is gone from the store: stop what runs, delete its directory. */
  remove(): void {
    this.#removed = true
    // What other nodes' balancers must have seen.
    this.#record = { ...this.#record, seenIndex: this.#parts.store.index }
    this.#stop()
    this.#wake?.()
  }

  #stop(): void {
    if (!this.isWanted) return
    this.#stopping.abort()
    this.#parts.onUnwanted()
  }

  /** The runner's one loop. Resolves when the directory is deleted, or when the agent stops. */
  async run(): Promise<void> {
    const { signal, executor, directories, log } = this.#parts
    try {
      await this.#live()
      await this.#until(() => this.#removed)
      await executor.remove(directories.path(this.id))
      await directories.delete(this.id)
    } catch (error) {
      if (signal.aborted) return
      log.error({ err: error, task: this.id }, 'a task cannot be handled')
      throw error
    }
  }

  async #live(): Promise<void> {
    if (isTerminal(this.status.state)) {
      await this.#releaseAndTell()
      return
    }
    let last: TaskStatus
    try {
      last = await this.#liveToEnd()
    } catch (error) {
      this.#parts.signal.throwIfAborted()
      last = await this.#failureStatus(error)
    }
    await this.#end(last)
  }

  /** Walks the states; returns the last one. */
  async #liveToEnd(): Promise<TaskStatus> {
    const { executor, directories, signal } = this.#parts
    const presence = await executor.inspect(directories.path(this.id))
    signal.throwIfAborted()
    switch (presence.state) {
      case 'exited':
        return this.#exitStatus(presence.exit)
      case 'running':
        return this.#watch(presence)
      case 'created':
        // It never ran, whatever our record planned; it is prepared anew.
        return this.#stopping.signal.aborted ? this.#observe('shutdown') : this.#prepareAndRun()
      case 'absent':
        if (this.#stopping.signal.aborted) return this.#observe('shutdown')
        return this.#wasStarted() ? this.#exitStatus(LOST) : this.#prepareAndRun()
      default:
        return presence satisfies never
    }
  }

  async #prepareAndRun(): Promise<TaskStatus> {
    const stopping = this.#stopping.signal
    const either = AbortSignal.any([this.#parts.signal, stopping])
    await this.#enter('accepted')
    await this.#parts.predecessorReleased(this.task, either)
    await this.#enter('preparing')
    const plan = await this.#planWithPatience(either)
    this.#remember(plan)
    const { executor, slots } = this.#parts
    await slots.run(either, () => executor.prepare(plan, { signal: either }))
    await this.#enter('ready')
    await this.#until(() => this.task.desiredState !== 'ready' || stopping.aborted)
    const delayMs = (this.#record.delayNs ?? 0) / NANOSECONDS_PER_MS
    if (delayMs > 0) await delay(this.#parts.clock, delayMs, either)
    either.throwIfAborted()
    return this.#watch(await slots.run(either, () => this.#start(plan)))
  }

  /** What a restarted agent needs although the image or the store may not answer then. */
  #remember(plan: TaskPlan): void {
    const { networking, readiness } = plan
    const { stopSignal } = plan.image.config
    this.#record = {
      ...this.#record,
      ...(networking === undefined ? {} : { networking }),
      ...(stopSignal === undefined ? {} : { imageStopSignal: stopSignal }),
      ...(readiness === undefined ? {} : { readiness }),
    }
  }

  /** A peer that has the image may be away for a moment: worth some attempts before giving up. */
  async #planWithPatience(signal: AbortSignal): Promise<TaskPlan> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.#parts.plan(this.#record, signal)
      } catch (error) {
        if (!isSwarmError(error, 'UNAVAILABLE') || attempt >= IMAGE_ATTEMPTS_MAX) throw error
        await this.#enter('preparing', { err: errorText(error) })
      }
      await delay(this.#parts.clock, IMAGE_RETRY_MS, signal)
    }
  }

  async #start(plan: TaskPlan): Promise<TaskProcess> {
    await this.#enter('starting')
    const process = await this.#parts.executor.start(plan)
    this.#startedMs = this.#parts.clock.monotonicMs()
    return process
  }

  async #watch(process: TaskProcess): Promise<TaskStatus> {
    const { pid, ports } = process
    // Known from here on, told when there is more to tell.
    const status = { ...this.status, container: { id: this.id, pid } }
    this.#record = { ...this.#record, status: ports === undefined ? status : { ...status, ports } }
    const exit = await watchTask(this.#parts, {
      directory: this.#parts.directories.path(this.id),
      process,
      startedMs: this.#startedMs ?? this.#parts.clock.monotonicMs(),
      stopping: this.#stopping.signal,
      record: () => this.#record,
      enter: (state, details) => this.#enter(state, details),
    })
    return this.#exitStatus(exit)
  }

  /** What an exit means depends on whether it was wanted. */
  #exitStatus(exit: TaskExit): TaskStatus {
    const ended = observeExit(this.#parts.clock, exit, this.status)
    if (!this.#stopping.signal.aborted) return ended
    const { container } = ended
    return this.#observe('shutdown', container === undefined ? {} : { container })
  }

  async #failureStatus(error: unknown): Promise<TaskStatus> {
    const directory = this.#parts.directories.path(this.id)
    await this.#parts.executor.stop(directory, { signalName: 'SIGKILL', graceMs: 0 })
    if (this.#stopping.signal.aborted) return this.#observe('shutdown')
    const err = errorText(error)
    this.#parts.log.warn({ err: error, task: this.id }, 'a task could not be started')
    if (isSwarmError(error, 'RUNTIME_FAILED') || this.status.state === 'starting') {
      const details = { message: 'starting', err: `starting container failed: ${err}` }
      return this.#observe('failed', details)
    }
    return this.#observe('rejected', { err })
  }

  /**
   * The address must be free before a successor starts, and the end on disk after its successor.
   */
  async #end(status: TaskStatus): Promise<void> {
    const byItself = !this.#stopping.signal.aborted
    this.#record = { ...this.#record, status }
    await this.#release()
    if (byItself) await this.#parts.onEnded(this)
    else this.#parts.onStatus(this)
    await this.#save()
  }

  /** After a restart of the agent: what had ended before may not have been told. */
  async #releaseAndTell(): Promise<void> {
    await this.#release()
    if (this.#stopping.signal.aborted) this.#parts.onStatus(this)
    else await this.#parts.onEnded(this)
  }

  /** A node that cannot clean up one task must still go on with the others, and say so. */
  async #release(): Promise<void> {
    try {
      await this.#parts.executor.release(this.#parts.directories.path(this.id))
    } catch (error) {
      this.#parts.log.error({ err: error, task: this.id }, 'an ended task could not be cleaned up')
    }
    this.#released.resolve()
  }

  async #enter(state: TaskState, details: Partial<TaskStatus> = {}): Promise<void> {
    this.#record = { ...this.#record, status: this.#observe(state, details) }
    // Only these steps change what a restarted agent would do; others save the flash.
    if (state === 'accepted' || state === 'starting') await this.#save()
    this.#parts.onStatus(this)
    if (state === 'running' && this.#record.readiness !== undefined) await this.#saveReadiness()
  }

  /** A full disk must not end what runs: a restarted agent then finds out again. */
  async #saveReadiness(): Promise<void> {
    try {
      await this.#save()
    } catch (error) {
      this.#parts.log.warn({ err: error, task: this.id }, 'a task’s readiness could not be saved')
    }
  }

  #observe(state: TaskState, details: Partial<TaskStatus> = {}): TaskStatus {
    return observe(this.#parts.clock, state, details)
  }

  /** Whether its process may have run, by this node's record or by what it once reported. */
  #wasStarted(): boolean {
    const { status, task } = this.#record
    return (
      compareTaskStates(status.state, 'starting') >= 0 ||
      compareTaskStates(task.status.state, 'starting') >= 0
    )
  }

  async #save(): Promise<void> {
    if (this.#removed) return
    await this.#parts.directories.write(this.#record)
  }

  #until(condition: () => boolean): Promise<void> {
    const { signal } = this.#parts
    return new Promise((resolve, reject) => {
      const check = (): void => {
        if (!signal.aborted && !condition()) return
        signal.removeEventListener('abort', check)
        this.#wake = undefined
        if (signal.aborted) reject(signal.reason as Error)
        else resolve()
      }
      signal.addEventListener('abort', check)
      this.#wake = check
      check()
    })
  }
}

const LOST: TaskExit = { exitCode: undefined, outOfMemory: false }

function isUnwanted(task: Task): boolean {
  return compareTaskStates(task.desiredState, 'running') > 0
}
