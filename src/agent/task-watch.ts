/**
 * The time of a task in which its process lives: it is attended until it is ready and as long as it
 * has a health check, and it ends by itself, because it is to stop, or because it is unhealthy.
 *
 * An unhealthy one goes the way of one that is to stop: out of all balancers first (`quiesce.ts`),
 * then its stop signal, the grace period, SIGKILL. Nothing here depends on who watched before:
 * after a crash the same begins again, with what the record says of the task's health.
 * Source: moby `daemon/cluster/executor/container/controller.go`, in its behaviour.
 */
import type { TaskState, TaskStatus } from '../store/objects.ts'
import { attend } from './health/attendant.ts'
import type { AttendantParts } from './health/attendant.ts'
import type { Executor, TaskExit } from './ports.ts'
import { quiesce } from './quiesce.ts'
import type { QuiesceParts } from './quiesce.ts'
import { STOP_SIGNAL_DEFAULT } from './signals.ts'
import type { TaskRecord } from './task-directory.ts'

/** Milliseconds between the stop signal and SIGKILL when the spec names none: Docker's 10 s. */
export const STOP_GRACE_MS_DEFAULT = 10_000

const NANOSECONDS_PER_MS = 1e6

/** What watching needs of the agent. */
export interface WatchParts extends Omit<AttendantParts, 'executor'>, QuiesceParts {
  readonly executor: Executor
  /** Aborts when the agent stops; containers go on. */
  readonly signal: AbortSignal
}

/** A process as its executor has started or found it. */
export interface TaskProcess {
  readonly pid: number
  readonly ports?: TaskStatus['ports']
}

/** The task that is watched. */
export interface WatchedTask {
  readonly directory: string
  readonly process: TaskProcess
  /** When its process started, by the monotonic clock; of an adopted one: when it was found. */
  readonly startedMs: number
  /** Aborts when the task is no longer wanted running. */
  readonly stopping: AbortSignal
  /** As it is now. */
  record(): TaskRecord
  /** Something new is known of it. */
  enter(state: TaskState, details: Partial<TaskStatus>): Promise<void>
}

/** Waits for the end of a task, or brings it about. @throws the reason of `parts.signal` */
export async function watchTask(parts: WatchParts, task: WatchedTask): Promise<TaskExit> {
  const { executor, signal } = parts
  const over = new AbortController()
  const unwell = new AbortController()
  const attending = attendTask(parts, task, over.signal)
  const attended = attending.then(
    (isWell) => (isWell ? undefined : unwell.abort()),
    () => unwell.abort(),
  )
  const ends = AbortSignal.any([signal, task.stopping, unwell.signal])
  try {
    return await executor.wait(task.directory, { signal: ends })
  } catch (error) {
    signal.throwIfAborted()
    if (!ends.aborted) throw error
  } finally {
    over.abort()
    await attended
  }
  // What kept it from being attended, if anything did.
  await attending
  await quiesce(parts, () => task.record())
  await executor.stop(task.directory, stopOptions(task.record()))
  return executor.wait(task.directory, { signal })
}

/** Gives false when the task is unhealthy, and why in its record. */
async function attendTask(
  parts: WatchParts,
  task: WatchedTask,
  signal: AbortSignal,
): Promise<boolean> {
  const record = task.record()
  const { id } = record.task
  const { pid, ports } = task.process
  const found = { container: { id, pid }, ...(ports === undefined ? {} : { ports }) }
  const { readiness } = record
  if (readiness === undefined) {
    await task.enter('running', found)
    return true
  }
  const wasReady = isRunning(record.status) || isRunning(record.task.status)
  const wasUnhealthy = [record.status, record.task.status].some((one) => one.health === 'unhealthy')
  const enter = (state: TaskState) => (details: Partial<TaskStatus>) => {
    return task.enter(state, { ...found, ...details })
  }
  const attended = {
    id,
    directory: task.directory,
    startedMs: task.startedMs,
    pid,
    ports,
    readiness,
    wasReady,
    onWaiting: enter('starting'),
    onReady: enter('running'),
  }
  const illness = wasUnhealthy ? 'unhealthy container' : await attend(parts, attended, signal)
  if (illness === undefined) return true
  const state = wasReady || isRunning(task.record().status) ? 'running' : 'starting'
  await enter(state)({ health: 'unhealthy', err: illness })
  return false
}

function isRunning(status: TaskStatus): boolean {
  return status.state === 'running'
}

function stopOptions(record: TaskRecord): {
  readonly signalName: string
  readonly graceMs: number
} {
  const { StopSignal, StopGracePeriod: graceNs } = record.task.spec.ContainerSpec
  return {
    signalName: StopSignal ?? record.imageStopSignal ?? STOP_SIGNAL_DEFAULT,
    graceMs: graceNs === undefined ? STOP_GRACE_MS_DEFAULT : graceNs / NANOSECONDS_PER_MS,
  }
}
