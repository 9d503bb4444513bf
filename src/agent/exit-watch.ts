/**
 * Waiting for a task's end. The exit file is the truth; inotify is only a hint that saves waiting,
 * and a rescan every `RESCAN_MS` catches what a hint missed. A process that is gone without an exit
 * file (its monitor was killed, or the machine was) ended with an unknown code.
 */
import { watch } from 'node:fs'
import type { FSWatcher } from 'node:fs'
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import { hasErrno } from './json-file.ts'
import type { TaskExit } from './ports.ts'
import { isAlive } from './process-mark.ts'
import { trimRawLogs } from './task-log.ts'
import type { TaskFiles } from './task-files.ts'

/** Milliseconds between looks at the exit file when no hint comes. */
export const RESCAN_MS = 5_000

/** A monitor has this long, in milliseconds, to write the exit file after its process is gone. */
export const EXIT_FILE_GRACE_MS = 1_000

const GRACE_POLL_MS = 25

/** Resolves when the task in `files` has ended. @throws the signal's reason */
export async function waitForExit(
  files: TaskFiles,
  clock: Clock,
  signal: AbortSignal,
): Promise<TaskExit> {
  using hints = new ExitHints(files.exitDirectory)
  for (;;) {
    signal.throwIfAborted()
    const exit = await readExitOrLoss(files, clock)
    if (exit !== undefined) return exit
    await trimRawLogs(files)
    await hints.next(clock, signal)
  }
}

/** How the task ended, or undefined while its process lives. */
export async function readExitOrLoss(
  files: TaskFiles,
  clock: Clock,
): Promise<TaskExit | undefined> {
  const exit = await files.readExit()
  if (exit !== undefined) return exit
  const mark = await files.readProcess()
  if (mark !== undefined && isAlive(mark)) return undefined
  for (let waited = 0; waited < EXIT_FILE_GRACE_MS; waited += GRACE_POLL_MS) {
    await delay(clock, GRACE_POLL_MS)
    const late = await files.readExit()
    if (late !== undefined) return late
  }
  return { exitCode: undefined, outOfMemory: false }
}

/**
 * Wakes its one waiter when something in a directory changed. Changes between waits are remembered.
 */
class ExitHints implements Disposable {
  readonly #watcher: FSWatcher | undefined
  #changed = false
  #wake: (() => void) | undefined

  constructor(directory: string) {
    try {
      this.#watcher = watch(directory, { persistent: false }, () => this.#hint())
      this.#watcher.on('error', () => this.#hint())
    } catch (error) {
      // No inotify left, or no directory yet: the rescan alone still finds the exit.
      if (!hasErrno(error, 'ENOSPC', 'EMFILE', 'ENOENT')) throw error
    }
  }

  async next(clock: Clock, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#changed) {
      this.#changed = false
      return
    }
    await new Promise<void>((resolve, reject) => {
      const finish = (): void => {
        timer.cancel()
        signal.removeEventListener('abort', onAbort)
        this.#wake = undefined
        this.#changed = false
        resolve()
      }
      const onAbort = (): void => {
        timer.cancel()
        this.#wake = undefined
        reject(new SwarmError('ABORTED', 'wait for a task: withdrawn', { cause: signal.reason }))
      }
      const timer = clock.after(RESCAN_MS, finish)
      this.#wake = finish
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  [Symbol.dispose](): void {
    this.#watcher?.close()
  }

  #hint(): void {
    this.#changed = true
    this.#wake?.()
  }
}
