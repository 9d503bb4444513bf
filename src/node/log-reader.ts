/**
 * `service logs`: the output of a service's tasks or of one task, wherever they run. Tasks of this
 * node are read from their files, the others over the mesh (`log-protocol.ts`).
 *
 * A node that does not answer never hides the others' logs. Read to the end, everything else comes
 * first and then an error that names the silent nodes, in Docker's words. Following, the missing
 * task says so itself, in a line of standard error, and goes on where it stopped when its node is
 * back: with conmon's log without gap or repetition; the times of other logs are coarse, so lines
 * around the gap may come twice.
 */
import type { LogLine } from '../agent/task-log.ts'
import type { LogOptions, LogReader, LogRecord, LogTarget } from '../api/ports.ts'
import { delay, wallTimeText } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, errorText, isSwarmError } from '../base/errors.ts'
import type { ErrorCode } from '../base/errors.ts'
import type { Mesh } from '../mesh/ports.ts'
import { FrameReader } from '../mesh/frames.ts'
import { isTerminal } from '../store/objects.ts'
import type { Task } from '../store/objects.ts'
import type { Commit, StoreView } from '../store/view.ts'
import { LogMerge } from './log-merge.ts'
import { LOGS_METHOD, LOG_RECORD_BYTES_MAX, decodeLine } from './log-protocol.ts'
import type { LogQuestion } from './log-protocol.ts'
import { readLocalLog } from './log-server.ts'
import type { LocalLogs } from './log-server.ts'

/** Logs read at once when none is followed: each holds its tail in memory. */
export const READ_LOGS_MAX = 8

/** Tasks that one reader follows at once; more is RESOURCE_EXHAUSTED. */
export const FOLLOWED_LOGS_MAX = 256

/** Milliseconds before a log that could not be followed is tried again. */
export const FOLLOW_RETRY_MS = 1000

/** What the reader is built from. */
export interface LogReaderComponents {
  readonly store: StoreView
  readonly agent: LocalLogs
  readonly mesh: Pick<Mesh, 'openStream'>
  readonly clock: Clock
}

/** Reads logs of the whole swarm. */
export class SwarmLogReader implements LogReader {
  readonly #components: LogReaderComponents
  readonly #nodeId: string

  constructor(components: LogReaderComponents, options: { readonly nodeId: string }) {
    this.#components = components
    this.#nodeId = options.nodeId
  }

  /**
   * The target's lines; ends by itself when no more can come.
   * @yields them in the order in which they arrive
   * @throws UNAVAILABLE after all other records when nodes did not answer
   */
  async *read(target: LogTarget, options: LogOptions): AsyncGenerator<LogRecord> {
    const withdrawn = new AbortController()
    const signal = AbortSignal.any([options.signal, withdrawn.signal])
    const merge = new LogMerge<LogRecord>()
    const failures = new Map<string, string>()
    const onAbort = (): void => merge.fail(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    const stopWatching = options.follow
      ? this.#followAll(merge, target, { ...options, signal })
      : this.#readAll(merge, target, { options: { ...options, signal }, failures })
    try {
      yield* merge.read()
    } catch (error) {
      // Who withdrew gets no error: for a follower this is the usual end.
      if (!signal.aborted) throw error
    } finally {
      signal.removeEventListener('abort', onAbort)
      stopWatching()
      withdrawn.abort(new SwarmError('ABORTED', 'logs: no longer read'))
      await merge.settled()
    }
    if (failures.size > 0 && !options.signal.aborted) throw incomplete(failures)
  }

  #readAll(
    merge: LogMerge<LogRecord>,
    target: LogTarget,
    { options, failures }: { readonly options: LogOptions; readonly failures: Map<string, string> },
  ): () => void {
    const tasks = this.#tasks(target)
    const readers = Math.min(READ_LOGS_MAX, tasks.length)
    for (let reader = 0; reader < readers; reader += 1) {
      merge.add(this.#readInTurn(tasks, options, failures))
    }
    merge.seal()
    return () => {}
  }

  // Takes tasks from the list until it is empty.
  async *#readInTurn(
    tasks: Task[],
    options: LogOptions,
    failures: Map<string, string>,
  ): AsyncGenerator<LogRecord> {
    for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) {
      try {
        for await (const line of this.#lines(task, options)) yield record(task, line)
      } catch (error) {
        if (options.signal.aborted) return
        if (!isSwarmError(error)) throw error
        // It has not begun to run, or its log is gone already.
        if (error.code === 'NOT_FOUND') continue
        failures.set(task.nodeId, reasonText(task, error))
      }
    }
  }

  /** Follows the tasks there are, and those that come; returns the undo. */
  #followAll(merge: LogMerge<LogRecord>, target: LogTarget, options: LogOptions): () => void {
    const { store } = this.#components
    let followed = new Set<string>()
    // Of a task that comes later, nothing has been written yet that would have to be cut.
    const { tail: _tail, ...later } = options
    const look = (wanted: LogOptions): void => {
      const tasks = this.#tasks(target)
      followed = new Set(tasks.map((task) => task.id).filter((id) => followed.has(id)))
      for (const task of tasks) {
        if (followed.has(task.id)) continue
        if (merge.active >= FOLLOWED_LOGS_MAX) {
          merge.fail(tooMany())
          return
        }
        followed.add(task.id)
        merge.add(this.#follow(task, wanted))
      }
      if (this.#isComplete(target, followed)) merge.seal()
    }
    look(options)
    return store.onCommit((commit) => {
      if (concerns(commit, target)) look(later)
    })
  }

  /** Whether no other task can come. */
  #isComplete(target: LogTarget, followed: ReadonlySet<string>): boolean {
    const { store } = this.#components
    if ('serviceId' in target) return store.get('services', target.serviceId) === undefined
    return followed.size > 0 || store.get('tasks', target.taskId) === undefined
  }

  async *#follow(task: Task, options: LogOptions): AsyncGenerator<LogRecord> {
    const { clock } = this.#components
    let last: string | undefined
    let warned = false
    for (;;) {
      try {
        for await (const line of this.#lines(task, options, last)) {
          warned = false
          last = line.time
          yield record(task, line)
        }
        return
      } catch (error) {
        if (options.signal.aborted) return
        if (!isSwarmError(error)) throw error
        if (!this.#maybeWrites(task)) return
        if (error.code !== 'NOT_FOUND' && !warned) {
          warned = true
          yield record(task, missingLine(reasonText(task, error), clock.wallMs()))
        }
      }
      if (!(await paused(clock, options.signal))) return
    }
  }

  /** Whether a task whose log cannot be read now may still write something. */
  #maybeWrites(task: Task): boolean {
    const now = this.#components.store.get('tasks', task.id)
    return now !== undefined && !isTerminal(now.status.state)
  }

  /**
   * Tasks of the target that have a node, in order of their creation. What ran on a node that was
   * removed from the swarm is gone with it.
   */
  #tasks(target: LogTarget): Task[] {
    const { store } = this.#components
    const tasks =
      'serviceId' in target
        ? store.find('tasks', 'serviceId', target.serviceId)
        : [store.get('tasks', target.taskId)].filter((task) => task !== undefined)
    return tasks
      .filter((task) => task.nodeId !== '' && store.get('nodes', task.nodeId) !== undefined)
      .toSorted((a, b) => a.meta.createdVersion - b.meta.createdVersion || a.slot - b.slot)
  }

  // Lines of one task; with `after`, only those later than it.
  async *#lines(task: Task, options: LogOptions, after?: string): AsyncGenerator<LogLine> {
    const { stdout, stderr, follow, tail, sinceMs, signal } = options
    const since = after ?? (sinceMs === undefined ? undefined : wallTimeText(sinceMs))
    const question: LogQuestion = {
      taskId: task.id,
      stdout,
      stderr,
      follow,
      ...(tail === undefined || after !== undefined ? {} : { tail }),
      ...(since === undefined ? {} : { since }),
    }
    const lines =
      task.nodeId === this.#nodeId
        ? readLocalLog(this.#components.agent, question, signal)
        : this.#remoteLines(task.nodeId, question, signal)
    for await (const line of lines) if (line.time !== after) yield line
  }

  async *#remoteLines(
    nodeId: string,
    question: LogQuestion,
    signal: AbortSignal,
  ): AsyncGenerator<LogLine> {
    const stream = await this.#components.mesh.openStream(nodeId, LOGS_METHOD, question, { signal })
    const onAbort = (): void => stream.abort(new SwarmError('ABORTED', 'logs: no longer read'))
    signal.addEventListener('abort', onAbort, { once: true })
    if (signal.aborted) onAbort()
    const frames = new FrameReader(LOG_RECORD_BYTES_MAX)
    let complete = false
    try {
      for await (const chunk of stream.source) {
        for (const frame of frames.push(chunk)) yield decodeLine(frame)
      }
      await stream.end()
      complete = true
    } finally {
      signal.removeEventListener('abort', onAbort)
      if (!complete) onAbort()
    }
  }
}

function concerns(commit: Commit, target: LogTarget): boolean {
  if (commit.type === 'restored') return true
  return commit.changes.some((change) => {
    if ('taskId' in target) return change.table === 'tasks' && change.id === target.taskId
    if (change.table === 'services') return change.id === target.serviceId
    if (change.table !== 'tasks') return false
    return (change.after ?? change.before)?.serviceId === target.serviceId
  })
}

async function paused(clock: Clock, signal: AbortSignal): Promise<boolean> {
  try {
    await delay(clock, FOLLOW_RETRY_MS, signal)
    return true
  } catch (error) {
    if (signal.aborted) return false
    throw error
  }
}

function record(task: Task, { stream, time, line }: LogLine): LogRecord {
  return {
    taskId: task.id,
    nodeId: task.nodeId,
    serviceId: task.serviceId,
    stream,
    timestamp: utcTime(time),
    line: Buffer.from(`${line}\n`),
  }
}

/** Docker's clients expect UTC with a `Z`; conmon writes the host's offset. Keeps the decimals. */
function utcTime(time: string): string {
  if (time.endsWith('Z')) return time
  const ms = Date.parse(time)
  if (Number.isNaN(ms)) return time
  const decimals = /\.\d+/.exec(time)?.[0] ?? ''
  return `${new Date(ms).toISOString().slice(0, 19)}${decimals}Z`
}

function missingLine(reason: string, wallMs: number): LogLine {
  const line = `skein: lines are missing here: ${reason}`
  return { stream: 'stderr', time: wallTimeText(wallMs), line }
}

/** The node, or the way to it, is not there now. */
const AWAY: ReadonlySet<ErrorCode> = new Set(['UNAVAILABLE', 'TIMED_OUT', 'SHUTTING_DOWN'])

/** In Docker's words where it has some. */
function reasonText(task: Task, error: SwarmError): string {
  const node = `node ${task.nodeId}`
  return AWAY.has(error.code) ? `${node} is not available` : `${node}: ${errorText(error)}`
}

function incomplete(failures: ReadonlyMap<string, string>): SwarmError {
  return new SwarmError(
    'UNAVAILABLE',
    'warning: incomplete log stream. some logs could not be retrieved for the following reasons: ' +
      [...failures.values()].join(', '),
  )
}

function tooMany(): SwarmError {
  return new SwarmError(
    'RESOURCE_EXHAUSTED',
    `logs: more than ${FOLLOWED_LOGS_MAX} tasks cannot be followed at once; name a task`,
  )
}
