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

/** The last status of a task that ended by itself, or was stopped because it was unhealthy. */
export function observeExit(clock: Clock, exit: TaskExit, last: TaskStatus): TaskStatus {
  const illness = last.health === 'unhealthy' ? (last.err ?? 'unhealthy') : undefined
  const container =
    last.container === undefined
      ? {}
      : {
          container: {
            ...last.container,
            ...(exit.exitCode === undefined ? {} : { exitCode: exit.exitCode }),
          },
        }
  if (exit.exitCode === 0 && illness === undefined) return observe(clock, 'complete', container)
  return observe(clock, 'failed', { ...container, err: exitText(exit, illness) })
}

function exitText(exit: TaskExit, illness: string | undefined): string {
  if (exit.exitCode === undefined) return 'task: ended while nobody watched (exit code unknown)'
  if (exit.exitCode === 0) return `task: ${illness}`
  const causes = [illness, exit.outOfMemory ? 'out of memory' : undefined]
  const because = causes.filter((cause) => cause !== undefined).map((cause) => `: ${cause}`)
  return `task: non-zero exit (${exit.exitCode})${because.join('')}`
}
