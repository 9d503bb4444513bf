/**
 * One daemon process of a peer: start until its API answers, stop, and clean up what is left. Only
 * processes whose command line names the peer's own directory are ever touched.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { openSync, closeSync, readFileSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { EngineClient, poll } from './engine-client.ts'
import { processesOf, removeCgroups, unmountBelow } from './process-table.ts'

const START_DEADLINE_MS = 60_000
const STOP_DEADLINE_MS = 60_000
/** How often a starting daemon is asked; the resolution of start-up times. */
const START_POLL_MS = 5

/** How a daemon is started. */
export interface DaemonCommand {
  readonly file: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
}

/** A daemon that answers on a unix socket. */
export class Daemon {
  readonly client: EngineClient
  readonly #directory: string
  readonly #command: DaemonCommand
  #child: ChildProcess | undefined
  #startupMs = 0

  constructor(directory: string, socketPath: string, command: DaemonCommand) {
    this.#directory = directory
    this.#command = command
    this.client = new EngineClient(socketPath)
  }

  /** Milliseconds of the last start. */
  get startupMs(): number {
    return this.#startupMs
  }

  /** @throws with the end of the daemon's log when it ends or does not answer */
  async start(): Promise<void> {
    const log = openSync(this.#logPath, 'a')
    const beganMs = performance.now()
    const child = spawn(this.#command.file, this.#command.args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.#command.env },
    })
    closeSync(log)
    this.#child = child
    await once(child, 'spawn')
    try {
      const timing = { everyMs: START_POLL_MS, deadlineMs: START_DEADLINE_MS }
      await poll('start of the daemon', timing, async () => {
        if (hasEnded(child)) throw new Error('the daemon ended at once')
        return (await this.client.ping()) || undefined
      })
    } catch (error) {
      throw new Error(`${this.#command.file}: does not start:\n${this.#logEnd()}`, { cause: error })
    }
    this.#startupMs = performance.now() - beganMs
  }

  /** SIGTERM and, after the deadline, SIGKILL. */
  async stop(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || hasEnded(child)) return
    child.kill('SIGTERM')
    const overdue = setTimeout(() => child.kill('SIGKILL'), STOP_DEADLINE_MS)
    await once(child, 'exit')
    clearTimeout(overdue)
  }

  /** Stops the daemon, ends what it left, unmounts, deletes the directory. */
  async remove(): Promise<void> {
    await this.stop()
    this.client.close()
    const left = processesOf(this.#directory)
    for (const { pid } of left) killIfThere(pid)
    await poll('end of what is left', { everyMs: 50, deadlineMs: 10_000 }, () =>
      Promise.resolve(processesOf(this.#directory).length === 0 || undefined),
    )
    unmountBelow(this.#directory)
    removeCgroups(basename(this.#directory))
    rmSync(this.#directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  }

  get #logPath(): string {
    return join(this.#directory, 'daemon.log')
  }

  #logEnd(): string {
    return readFileSync(this.#logPath, 'utf8').split('\n').slice(-20).join('\n')
  }
}

/** SIGKILL to a process that may be gone already. */
export function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}
