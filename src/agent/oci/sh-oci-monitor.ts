/** crun or runc under the sh monitor: `run` creates and starts in one step. */
import { delay } from '../../base/clock.ts'
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import { readTextFile } from '../json-file.ts'
import { toolEnvironment } from '../run-command.ts'
import { spawnShMonitor } from '../sh-monitor.ts'
import { readPidFile } from '../task-files.ts'
import type { TaskFiles } from '../task-files.ts'
import type { Monitor } from './monitor.ts'
import { wrapForCreate } from './runtime.ts'
import type { OciRuntime } from './runtime.ts'

/** Longest wait for the runtime to say the container's pid, milliseconds. */
const START_TIMEOUT_MS = 20_000
const POLL_MS = 10

/** The monitor for hosts without conmon. */
export class ShOciMonitor implements Monitor {
  readonly name = 'sh'
  readonly #clock: Clock

  constructor(clock: Clock) {
    this.#clock = clock
  }

  create(): Promise<undefined> {
    return Promise.resolve(undefined)
  }

  async start(runtime: OciRuntime, files: TaskFiles): Promise<number> {
    const errorLog = `${files.directory}/runtime.log`
    const argv = wrapForCreate(runtime, [
      runtime.path,
      `--root=${runtime.stateRoot}`,
      `--log=${errorLog}`,
      'run',
      `--bundle=${files.directory}`,
      `--pid-file=${files.pid}`,
      files.id,
    ])
    await spawnShMonitor(files, { argv, cwd: files.directory, env: toolEnvironment() })
    return this.#awaitPid(files, errorLog)
  }

  async #awaitPid(files: TaskFiles, errorLog: string): Promise<number> {
    const deadline = this.#clock.monotonicMs() + START_TIMEOUT_MS
    while (this.#clock.monotonicMs() < deadline) {
      // In this order: a short task may write both files between the two looks.
      const ended = (await files.readExit()) !== undefined
      const pid = await readPidFile(files.pid)
      if (pid !== undefined) return pid
      if (ended) {
        const words = (await readTextFile(errorLog))?.trim() ?? ''
        throw new SwarmError(
          'RUNTIME_FAILED',
          `container ${files.id}: ${words || 'it did not start'}`,
        )
      }
      await delay(this.#clock, POLL_MS)
    }
    throw new SwarmError('RUNTIME_FAILED', `container ${files.id}: no pid in time`)
  }
}
