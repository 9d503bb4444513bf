/** The end of a task: its stop signal, the grace period, SIGKILL. */
import type { Clock } from '../base/clock.ts'
import { isSwarmError } from '../base/errors.ts'
import { waitForExit } from './exit-watch.ts'
import { signalNumber } from './signals.ts'
import type { TaskFiles } from './task-files.ts'

const SIGKILL = 9

/** How to stop. `send` delivers a signal and says whether there was anybody to get it. */
export interface StopRequest {
  readonly signalName: string
  readonly graceMs: number
  readonly send: (signal: number) => boolean
}

/** Stops the task in `files`; resolves when it has ended. */
export async function stopTask(
  files: TaskFiles,
  clock: Clock,
  request: StopRequest,
): Promise<void> {
  if ((await files.readExit()) !== undefined) return
  if (request.send(signalNumber(request.signalName)) && request.graceMs > 0) {
    if (await endsWithin(files, clock, request.graceMs)) return
  }
  request.send(SIGKILL)
  await waitForExit(files, clock, new AbortController().signal)
}

async function endsWithin(files: TaskFiles, clock: Clock, graceMs: number): Promise<boolean> {
  const controller = new AbortController()
  const timer = clock.after(graceMs, () => controller.abort())
  try {
    await waitForExit(files, clock, controller.signal)
    return true
  } catch (error) {
    if (controller.signal.aborted && (isSwarmError(error, 'ABORTED') || isAbortError(error))) {
      return false
    }
    throw error
  } finally {
    timer.cancel()
  }
}

function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError'
}
