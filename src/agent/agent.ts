/**
 * The agent: makes this node run the tasks that the store says it should, reports what it sees, and
 * restarts what ends, also when nobody else can be reached.
 *
 * Data path: commits of the local replica → one runner a task (`task-runner.ts`) → executor;
 * statuses →
 * `status-reporter.ts` → proposer. What runs is known from the task directories
 * (`task-directory.ts`), so the daemon may die at any moment: a new agent lists them and goes on.
 *
 * Stopping the agent stops no container.
 */
import { existsSync } from 'node:fs'
import type { Clock, Timer } from '../base/clock.ts'
import { SwarmError, errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { Images } from '../image/ports.ts'
import { compareTaskStates, isTerminal } from '../store/objects.ts'
import type { Task } from '../store/objects.ts'
import { successorTaskId } from '../store/restart-policy.ts'
import type { Proposer } from '../store/transaction.ts'
import type { Commit, StoreView } from '../store/view.ts'
import { CHECKS_AT_ONCE_MAX } from './health/attendant.ts'
import type { OpenPortReader } from './health/listening.ts'
import { RestartReporter, restartsLocally, successorRecord } from './local-restarts.ts'
import { hostNameservers } from './nameservers.ts'
import type { Executor, TaskPlan } from './ports.ts'
import type { Balancers } from './quiesce.ts'
import { StartSlots } from './start-slots.ts'
import { StatusReporter } from './status-reporter.ts'
import { TaskDirectories } from './task-directory.ts'
import type { TaskRecord } from './task-directory.ts'
import { TaskFiles } from './task-files.ts'
import { readTaskLog } from './task-log.ts'
import type { LogLine, LogQuery } from './task-log.ts'
import { makePlan, taskNetworking } from './task-plan.ts'
import { TaskRunner } from './task-runner.ts'
import type { RunnerParts } from './task-runner.ts'

/** Tasks that are prepared or started at once; two cores gain nothing from more. */
export const START_CONCURRENCY_DEFAULT = 4

/** What the agent is built from. */
export interface AgentComponents {
  readonly store: StoreView
  readonly proposer: Proposer
  readonly images: Images
  readonly executor: Executor
  /** Absent: nothing leads connections to tasks. */
  readonly balancers?: Balancers
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  /** Absent: the kernel's files say which ports are open. */
  readonly openPorts?: OpenPortReader
}

/** How the agent works. */
export interface AgentOptions {
  readonly nodeId: string
  readonly dataDirectory: string
  readonly startConcurrency?: number
  /** The DNS server that containers started now are told; undefined: the host's. */
  readonly resolver?: () => Promise<string | undefined>
}

interface OwnedRunner {
  readonly runner: TaskRunner
  /** Resolves when its loop has ended. */
  readonly finished: Promise<void>
}

/** Runs this node's tasks. */
export class Agent {
  readonly #parts: AgentComponents
  readonly #options: AgentOptions
  readonly #directories: TaskDirectories
  readonly #reporter: StatusReporter
  readonly #restarts: RestartReporter
  readonly #runnerParts: RunnerParts
  readonly #stopping = new AbortController()
  /** Every task with a directory here, also ended ones until the store forgets them. */
  readonly #runners = new Map<string, OwnedRunner>()
  readonly #running = new Set<Promise<void>>()
  /** Tasks that changed in the store since they were looked at last. */
  readonly #changed = new Set<string>()
  #changedTimer: Timer | undefined
  readonly #listeners = new Set<() => void>()
  #unwatch: (() => void) | undefined

  constructor(components: AgentComponents, options: AgentOptions) {
    const { nodeId, dataDirectory } = options
    const { executor, clock, log, openPorts, store, balancers } = components
    this.#parts = components
    this.#options = options
    this.#directories = new TaskDirectories(dataDirectory)
    this.#reporter = new StatusReporter(components, { nodeId })
    this.#restarts = new RestartReporter(
      {
        ...components,
        pending: (id) => this.#pendingRestart(id),
        onRefused: (id) => this.#onRefused(id),
      },
      { nodeId },
    )
    this.#runnerParts = {
      executor,
      clock,
      log,
      store,
      ...(balancers === undefined ? {} : { balancers }),
      directories: this.#directories,
      slots: new StartSlots(options.startConcurrency ?? START_CONCURRENCY_DEFAULT),
      checkSlots: new StartSlots(CHECKS_AT_ONCE_MAX),
      ...(openPorts === undefined ? {} : { openPorts }),
      signal: this.#stopping.signal,
      plan: (record, signal) => this.#plan(record, signal),
      predecessorReleased: (task, signal) => this.#predecessorReleased(task, signal),
      onUnwanted: () => this.#tell(),
      onStatus: (runner) => this.#onStatus(runner),
      onEnded: (runner) => this.#onEnded(runner),
    }
  }

  /** Adopts what runs, then follows the store. */
  async start(): Promise<void> {
    const { records, unreadable } = await this.#directories.list()
    for (const id of unreadable) await this.#removeUnreadable(id)
    for (const record of records) this.#launch(record)
    this.#unwatch = this.#parts.store.onCommit((commit) => this.#onCommit(commit))
    this.#resync()
    const local = records.filter((record) => record.origin === 'local')
    for (const record of local.toSorted((a, b) => a.task.attempt - b.task.attempt)) {
      this.#restarts.enqueue(record.task.id)
    }
    void this.#own(this.#reporter.run(this.#stopping.signal))
    void this.#own(this.#restarts.run(this.#stopping.signal))
  }

  /** Stops watching and reporting. Containers go on. */
  async stop(): Promise<void> {
    this.#unwatchStore()
    this.#stopping.abort(new SwarmError('SHUTTING_DOWN', 'agent: stopping'))
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  /** Stops every task and removes all traces of them from this node: it left its swarm. */
  async removeAll(): Promise<void> {
    this.#unwatchStore()
    // A task that ends meanwhile may still be given a successor.
    while (this.#runners.size > 0) {
      for (const { runner } of this.#runners.values()) runner.remove()
      await Promise.all([...this.#runners.values()].map(({ finished }) => finished))
    }
    await this.stop()
    await this.#parts.executor.dispose()
  }

  /**
   * This node's tasks with the status observed last, also those that the store does not know yet.
   */
  tasks(): readonly Task[] {
    return [...this.#runners.values()].map(({ runner: { task, status, isWanted } }) => {
      return isWanted ? { ...task, status } : { ...task, status, desiredState: 'shutdown' }
    })
  }

  /** Calls `listener` after each change of what `tasks` gives; returns the undo. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Containers of this node's tasks that run, and all that exist. */
  containerCounts(): { readonly running: number; readonly total: number } {
    const runners = [...this.#runners.values()]
    const running = runners.filter(({ runner }) => runner.status.state === 'running').length
    return { running, total: runners.length }
  }

  /** The output of a task of this node. @throws NOT_FOUND */
  readLogs(taskId: string, query: LogQuery = {}): AsyncIterable<LogLine> {
    const directory = this.#directories.path(taskId)
    if (!/^[0-9a-z]+$/.test(taskId) || !existsSync(directory)) {
      throw new SwarmError('NOT_FOUND', `task ${taskId}: not on this node`)
    }
    return readTaskLog(new TaskFiles(directory), query, {
      clock: this.#parts.clock,
      isFinished: () => {
        const status = this.#runners.get(taskId)?.runner.status
        return Promise.resolve(status === undefined || isTerminal(status.state))
      },
    })
  }

  #unwatchStore(): void {
    this.#unwatch?.()
    this.#changedTimer?.cancel()
  }

  #onCommit(commit: Commit): void {
    if (commit.type === 'restored') {
      this.#resync()
      return
    }
    for (const change of commit.changes) {
      if (change.table !== 'tasks') continue
      const { before, after } = change
      if ((after ?? before)?.nodeId === this.#options.nodeId) this.#changed.add(change.id)
    }
    if (this.#changed.size === 0) return
    // Not at once: a replica that catches up applies many entries in a row, and only the last state
    // of a task is worth acting on.
    this.#changedTimer ??= this.#parts.clock.after(0, () => this.#onChanged())
  }

  #onChanged(): void {
    this.#changedTimer = undefined
    const ids = [...this.#changed]
    this.#changed.clear()
    for (const id of ids) {
      const task = this.#parts.store.get('tasks', id)
      if (task === undefined) this.#onRemoved(id)
      else this.#onTask(task)
    }
  }

  /** Compares everything with the store: at the start, and after a snapshot replaced it. */
  #resync(): void {
    const { store } = this.#parts
    for (const task of store.find('tasks', 'nodeId', this.#options.nodeId)) this.#onTask(task)
    for (const { runner } of this.#runners.values()) {
      const { id, record } = runner
      // A replica that is older than our record cannot know that the task is gone.
      const known = record.origin === 'store' && store.index >= record.seenIndex
      if (known && store.index > 0 && store.get('tasks', id) === undefined) this.#onRemoved(id)
    }
  }

  #onTask(task: Task): void {
    const runner = this.#runners.get(task.id)?.runner
    if (runner !== undefined) {
      runner.update(task)
      this.#reportIfAhead(runner)
      return
    }
    const { state } = task.status
    if (isTerminal(state) || compareTaskStates(state, 'assigned') < 0) return
    this.#launch({
      task,
      origin: 'store',
      seenIndex: this.#parts.store.index,
      status: task.status,
    })
  }

  #onRemoved(taskId: string): void {
    this.#reporter.forget(taskId)
    this.#runners.get(taskId)?.runner.remove()
  }

  #launch(record: TaskRecord): void {
    const runner = new TaskRunner(record, this.#runnerParts)
    const finished = this.#own(
      runner.run().finally(() => {
        this.#runners.delete(runner.id)
        this.#tell()
      }),
    )
    this.#runners.set(runner.id, { runner, finished })
  }

  /**
   * Keeps a loop's promise until it settles; a loop that throws is an error, not the agent's end.
   */
  #own(loop: Promise<void>): Promise<void> {
    const owned = loop
      .catch((error: unknown) => {
        this.#parts.log.error({ err: error }, 'a loop of the agent ended with an error')
      })
      .finally(() => this.#running.delete(owned))
    this.#running.add(owned)
    return owned
  }

  #tell(): void {
    for (const listener of this.#listeners) listener()
  }

  #onStatus(runner: TaskRunner): void {
    this.#tell()
    const { record } = runner
    // A task that the store does not know is reported by its restart; see `#reportIfAhead` for
    // after.
    if (record.origin === 'local') return
    this.#reporter.observe(runner.id, record.status)
  }

  #reportIfAhead(runner: TaskRunner): void {
    const { status, task } = runner.record
    if (compareTaskStates(status.state, task.status.state) <= 0) return
    if (this.#restarts.isWaiting(successorTaskId(runner.id))) return
    this.#reporter.observe(runner.id, status)
  }

  async #onEnded(runner: TaskRunner): Promise<void> {
    this.#tell()
    const { record } = runner
    const ended = { record, task: record.task, status: record.status, ranMs: runner.ranMs() }
    if (!restartsLocally(ended)) {
      this.#onStatus(runner)
      return
    }
    const { clock, store } = this.#parts
    const context = { clock, seenIndex: store.index, unreported: this.#restarts.unreported }
    const successor = successorRecord(ended, context)
    const { id } = successor.task
    const exists = (): boolean => this.#runners.has(id) || store.get('tasks', id) !== undefined
    if (exists()) return
    await this.#directories.write(successor)
    // The leader may have made the same successor meanwhile; then it runs already.
    if (exists()) return
    this.#restarts.enqueue(id)
    this.#launch(successor)
  }

  #pendingRestart(successorId: string): TaskRecord | undefined {
    const record = this.#runners.get(successorId)?.runner.record
    return record?.origin === 'local' ? record : undefined
  }

  /** The cluster decided otherwise: our successor must go, its predecessor's end is still news. */
  #onRefused(successorId: string): void {
    const runner = this.#runners.get(successorId)?.runner
    if (runner?.record.origin !== 'local') return
    const { predecessor } = runner.task
    const before = predecessor === undefined ? undefined : this.#runners.get(predecessor)?.runner
    if (before !== undefined) this.#onStatus(before)
    runner.remove()
  }

  async #predecessorReleased(task: Task, signal: AbortSignal): Promise<void> {
    const { predecessor } = task
    const before = predecessor === undefined ? undefined : this.#runners.get(predecessor)?.runner
    if (before === undefined || isToRunOn(before)) return
    signal.throwIfAborted()
    const aborted = Promise.withResolvers<never>()
    const onAbort = (): void => aborted.reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await Promise.race([before.released, aborted.promise])
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  async #plan(record: TaskRecord, signal: AbortSignal): Promise<TaskPlan> {
    const { store, images, executor } = this.#parts
    const { task } = record
    const image = await images.ensure(task.spec.ContainerSpec.Image, { signal })
    const node = store.get('nodes', this.#options.nodeId)
    const own = await this.#options.resolver?.()
    const { Nameservers: asked = [] } = task.spec.ContainerSpec.DNSConfig ?? {}
    const others = asked.length > 0 ? asked : await hostNameservers()
    const nameservers = own === undefined ? others : [own]
    const networking = executor.hasNetwork
      ? (taskNetworking(task, node, {
          nameservers,
          networkOf: (id) => store.get('networks', id),
        }) ?? record.networking)
      : undefined
    return makePlan({
      task,
      image,
      node,
      networking,
      directory: this.#directories.path(task.id),
      service: store.get('services', task.serviceId),
    })
  }

  /** A torn record says nothing; whatever runs there belongs to no known task. */
  async #removeUnreadable(id: string): Promise<void> {
    this.#parts.log.warn({ task: id }, 'a task directory has no readable record')
    // A task that the store knows is adopted with the store's record.
    if (this.#parts.store.get('tasks', id) !== undefined) return
    try {
      await this.#parts.executor.remove(this.#directories.path(id))
    } catch (error) {
      this.#parts.log.error({ task: id, err: errorText(error) }, 'cannot remove a task directory')
    }
  }
}

/** A task that runs on until its successor does (update order `start-first`). */
function isToRunOn({ task, status }: TaskRunner): boolean {
  return task.desiredState === 'running' && !isTerminal(status.state)
}
