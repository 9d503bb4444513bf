/** Statuses as this node observes them, in SwarmKit's words. */
import { wallTimeText } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import type { TaskState, TaskStatus } from '../store/objects.ts'
import type { TaskExit } from './ports.ts'

/** What happened, for people, by state. */
const MESSAGES: Readonly<Partial<Record<TaskState, string>>> = {
  accepted: 'accepted',
  preparing: 'preparing',
  ready: 'prepared',
  starting: 'starting',
  running: 'started',
  complete: 'finished',
  shutdown: 'shutdown',
  failed: 'started',
  rejected: 'preparing',
}

/** Makes a status with the current time. */
export function observe(
  clock: Clock,
  state: TaskState,
  details: Partial<Omit<TaskStatus, 'state' | 'timestamp'>> = {},
): TaskStatus {
  return {
    state,
    timestamp: wallTimeText(clock.wallMs()),
    message: MESSAGES[state] ?? state,
    ...details,
  }
}

/** The last status of a task that ended by itself. */
export function observeExit(clock: Clock, exit: TaskExit, last: TaskStatus): TaskStatus {
  const container =
    last.container === undefined
      ? {}
      : {
          container: {
            ...last.container,
            ...(exit.exitCode === undefined ? {} : { exitCode: exit.exitCode }),
          },
        }
  if (exit.exitCode === 0) return observe(clock, 'complete', container)
  return observe(clock, 'failed', { ...container, err: exitText(exit) })
}

function exitText(exit: TaskExit): string {
  if (exit.exitCode === undefined) return 'task: ended while nobody watched (exit code unknown)'
  const cause = exit.outOfMemory ? ': out of memory' : ''
  return `task: non-zero exit (${exit.exitCode})${cause}`
}
