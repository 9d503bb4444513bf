/**
 * The files that an executor and its monitor leave in a task directory. The same for every monitor,
 * so that the agent is stateless over restarts (reference runtime §1.3):
 *
 * ```
 * <data>/tasks/<task id>/
 *   task.json      what the agent knows (task-directory.ts)
 *   process.json   mark of the task's first process (process-mark.ts), written before it may run
 *   started        exists from the moment that the user's process was allowed to run
 *   exits/<id>     exit code in decimal, written atomically by the monitor
 *   exits/oom      the kernel killed it for memory
 *   log            lines `<RFC 3339 ns> <stream> <F|P> <text>` (conmon)
 *   stdout.log, stderr.log   raw bytes (sh monitor)
 * ```
 */
import { existsSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readJsonFile, readTextFile, writeJsonFile } from './json-file.ts'
import type { TaskExit } from './ports.ts'
import { decodeProcessMark } from './process-mark.ts'
import type { ProcessMark } from './process-mark.ts'

/** Names of everything in one task directory. */
export class TaskFiles {
  readonly directory: string
  /** Container id: the task's. */
  readonly id: string

  constructor(directory: string) {
    this.directory = directory
    this.id = basename(directory)
  }

  get exitDirectory(): string {
    return join(this.directory, 'exits')
  }

  get exit(): string {
    return join(this.exitDirectory, this.id)
  }

  get pid(): string {
    return join(this.directory, 'pid')
  }

  get monitorPid(): string {
    return join(this.directory, 'monitor.pid')
  }

  /** What monitor and runtime print on their own. */
  get monitorLog(): string {
    return join(this.directory, 'monitor.log')
  }

  /** conmon's log. */
  get log(): string {
    return join(this.directory, 'log')
  }

  /** The sh monitor's raw log of one stream. */
  rawLog(stream: 'stdout' | 'stderr'): string {
    return join(this.directory, `${stream}.log`)
  }

  get #process(): string {
    return join(this.directory, 'process.json')
  }

  get #started(): string {
    return join(this.directory, 'started')
  }

  async writeProcess(mark: ProcessMark): Promise<void> {
    await writeJsonFile(this.#process, mark)
  }

  async readProcess(): Promise<ProcessMark | undefined> {
    return decodeProcessMark(await readJsonFile(this.#process))
  }

  /** From here on the user's process may have run, whatever happens to us. */
  async markStarted(): Promise<void> {
    await writeFile(this.#started, '', { mode: 0o600 })
  }

  wasStarted(): boolean {
    return existsSync(this.#started)
  }

  /** How it ended, if the monitor wrote that. */
  async readExit(): Promise<TaskExit | undefined> {
    const text = await readTextFile(this.exit)
    if (text === undefined) return undefined
    const code = Number.parseInt(text, 10)
    return {
      exitCode: Number.isInteger(code) ? code & 0xff : undefined,
      outOfMemory: existsSync(join(this.exitDirectory, 'oom')),
    }
  }
}

/** The pid in a pid file. */
export async function readPidFile(path: string): Promise<number | undefined> {
  const pid = Number.parseInt((await readTextFile(path)) ?? '', 10)
  return Number.isInteger(pid) && pid > 0 ? pid : undefined
}
