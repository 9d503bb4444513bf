/**
 * Attends one running task: says when it is ready, and, where it has a health check, when it is no
 * longer well. Runs beside the wait for the task's end, in no start slot, so that neither a slow
 * program nor a slow check holds up another task.
 *
 * Checks of one task never overlap, also when one cannot be killed; checks of all tasks share
 * `CHECKS_AT_ONCE_MAX` slots, and waiting for one does not count against their timeout.
 */
import type { Clock } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import type { TaskStatus } from '../../store/objects.ts'
import type { CheckResult, Executor } from '../ports.ts'
import type { StartSlots } from '../start-slots.ts'
import { pause } from '../status-reporter.ts'
import type { HealthCheck } from './health-check.ts'
import { HealthState } from './health-state.ts'
import { isServed, missingPorts } from './listening.ts'
import type { OpenPortReader } from './listening.ts'
import { wishText } from './readiness.ts'
import type { ListenWish, Readiness, ServedPort } from './readiness.ts'

/** Health checks that run at the same time on a node; each is a process or two. */
export const CHECKS_AT_ONCE_MAX = 16

/** Milliseconds that a task may take until it listens; then it counts as running all the same. */
export const LISTEN_WAIT_MS_MAX = 15_000

/** Milliseconds that the other ports may take once one is listened on: not every one must be. */
export const LISTEN_REST_MS_MAX = 5_000

/**
 * Milliseconds between looks whether a program listens: the first, growing to the last. By files
 * a look makes the kernel walk its table of connections: 5 to 12 ms of processor time.
 */
const LOOK_MS_MIN = 20
const LOOK_MS_MAX = 500
const LOOK_GROWTH = 2

/** Characters of a check's output that its task's error shows. */
const EXCERPT_LENGTH_MAX = 200

/** What an attendant works with. */
export interface AttendantParts {
  readonly executor: Pick<Executor, 'check'>
  readonly clock: Clock
  readonly log: Logger
  /** `CHECKS_AT_ONCE_MAX` of them, of all tasks. */
  readonly checkSlots: StartSlots
  /** Absent: the kernel's files are read. */
  readonly openPorts?: OpenPortReader
}

/** The task and what is known of it. */
export interface Attended {
  readonly id: string
  readonly directory: string
  readonly pid: number
  readonly ports: TaskStatus['ports']
  readonly readiness: Readiness
  /** When its process started, by the monotonic clock. */
  readonly startedMs: number
  /** Whether it was ready before this daemon began to attend it. */
  readonly wasReady: boolean
  /** Not ready yet; called at most once, before `onReady`. */
  onWaiting(details: Partial<TaskStatus>): Promise<void>
  /** Ready from now on. */
  onReady(details: Partial<TaskStatus>): Promise<void>
}

/** Attends until `signal` aborts. Resolves with the reason when the task is unhealthy. */
export async function attend(
  parts: AttendantParts,
  task: Attended,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { readiness } = task
  if (readiness.type === 'check') return attendHealth(parts, task, readiness.check, signal)
  const details = task.wasReady ? {} : await untilListening(parts, task, readiness.wish, signal)
  if (!signal.aborted) await task.onReady(details)
  return undefined
}

async function attendHealth(
  parts: AttendantParts,
  task: Attended,
  check: HealthCheck,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { clock } = parts
  const known = task.wasReady ? 'healthy' : 'starting'
  const state = new HealthState(check, { startedMs: task.startedMs, known })
  await (task.wasReady
    ? task.onReady({ health: 'healthy' })
    : task.onWaiting({ health: 'starting' }))
  let last: CheckResult | undefined
  for (;;) {
    if (!(await pause(clock, state.delayMs(clock.monotonicMs()), signal))) return undefined
    const before = state.status
    const round = await nextCheck(parts, { task, check, last }, signal)
    if (signal.aborted || round === undefined) return undefined
    last = round.result
    const status = state.onResult(last.exitCode === 0, round.begunMs)
    if (status === 'unhealthy') return onUnhealthy(parts, task, last)
    if (status !== before) await task.onReady({ health: status })
  }
}

interface Round {
  readonly begunMs: number
  readonly result: CheckResult
}

/** Undefined when it was withdrawn before it began. */
async function nextCheck(
  { executor, clock, checkSlots }: AttendantParts,
  about: {
    readonly task: Attended
    readonly check: HealthCheck
    readonly last: CheckResult | undefined
  },
  signal: AbortSignal,
): Promise<Round | undefined> {
  const { task, check, last } = about
  if (last !== undefined && !last.isGone()) {
    const result = { ...last, exitCode: undefined, output: 'the last check cannot be killed' }
    return { begunMs: clock.monotonicMs(), result }
  }
  try {
    return await checkSlots.run(signal, async () => {
      const begunMs = clock.monotonicMs()
      const { timeoutMs } = check
      return { begunMs, result: await executor.check(task.directory, { timeoutMs, signal }) }
    })
  } catch (error) {
    if (signal.aborted) return undefined
    throw error
  }
}

function onUnhealthy({ log }: AttendantParts, task: Attended, result: CheckResult): string {
  const { exitCode, output } = result
  log.info({ task: task.id, exitCode, output }, 'a task is unhealthy')
  const excerpt = output.replaceAll(/\s+/g, ' ').slice(0, EXCERPT_LENGTH_MAX)
  return excerpt === '' ? 'unhealthy container' : `unhealthy container: ${excerpt}`
}

async function untilListening(
  { clock, log, openPorts }: AttendantParts,
  task: Attended,
  wish: ListenWish,
  signal: AbortSignal,
): Promise<Partial<TaskStatus>> {
  const query = { pid: task.pid, wish: mappedWish(wish, task.ports), byLoopback: isMapped(task) }
  let deadlineMs = clock.monotonicMs() + LISTEN_WAIT_MS_MAX
  let lookMs = LOOK_MS_MIN
  let missing: readonly ServedPort[] = query.wish.ports
  for (let looks = 0; ; looks += 1) {
    const before = missing.length
    missing = await missingPorts(query, openPorts)
    if (isServed(query.wish, missing)) return {}
    const nowMs = clock.monotonicMs()
    if (before === query.wish.ports.length && missing.length < before) {
      deadlineMs = Math.min(deadlineMs, nowMs + LISTEN_REST_MS_MAX)
    }
    if (nowMs >= deadlineMs) break
    const text = wishText({ ...wish, ports: missing })
    if (looks === 0) await task.onWaiting({ message: `started, waits until it listens on ${text}` })
    if (!(await pause(clock, Math.min(lookMs, deadlineMs - nowMs), signal))) return {}
    lookMs = Math.min(lookMs * LOOK_GROWTH, LOOK_MS_MAX)
  }
  const text = wishText({ ...wish, ports: missing })
  log.warn({ task: task.id, ports: text }, 'a task does not listen on its ports')
  return { message: `started, does not listen on ${text}` }
}

/** Processes without a network of their own are reached by loopback. */
function isMapped({ ports }: Attended): boolean {
  return ports !== undefined
}

/** The wish in ports of the host, where the task's own are mapped to those. */
function mappedWish(wish: ListenWish, ports: TaskStatus['ports']): ListenWish {
  if (ports === undefined) return wish
  const mapped = wish.ports.flatMap(({ protocol, port }) => {
    const found =
      protocol === 'tcp' ? ports.find(({ targetPort }) => targetPort === port) : undefined
    return found === undefined ? [] : [{ protocol, port: found.hostPort }]
  })
  return { ...wish, ports: mapped }
}
