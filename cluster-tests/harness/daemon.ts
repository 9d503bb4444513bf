/**
 * Real daemons for tests, benchmarks and the quickstart: each a `./skein daemon` process of its own with
 * its own data directory, address and socket. Everything started here is ended here.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { errorText } from '../../src/base/errors.ts'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { request } from 'node:http'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** The checkout. */
export const ROOT = resolve(import.meta.dirname, '../..')

/** The binary under test. */
export const SKEIN = join(ROOT, 'skein')

/** How many times slower than usual this machine may be: in an emulated one all times are longer. */
const PATIENCE = Number(process.env['SKEIN_TEST_PATIENCE'] ?? 1)
const START_LIMIT_MS = 30_000
const COMMAND_LIMIT_MS = 60_000
const PING_INTERVAL_MS = 50
const PROBE_INTERVAL_MS = 50

/** Where one daemon lives. */
export interface DaemonOptions {
  readonly name: string
  readonly directory: string
  /** `host:port` */
  readonly listenAddress: string
  /** Put before the command, e.g. `['ip', 'netns', 'exec', 'a']`. */
  readonly wrapper?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Default: `<directory>/<name>`. */
  readonly dataDirectory?: string
}

/** One daemon process. */
export class Daemon {
  readonly options: DaemonOptions
  readonly socket: string
  readonly dataDirectory: string
  #child: ChildProcess | undefined

  constructor(options: DaemonOptions) {
    this.options = options
    this.dataDirectory = options.dataDirectory ?? join(options.directory, options.name)
    this.socket = join(this.dataDirectory, 'skein.sock')
  }

  get host(): string {
    return this.options.listenAddress.slice(0, this.options.listenAddress.lastIndexOf(':'))
  }

  get pid(): number {
    const pid = this.#child?.pid
    if (pid === undefined) throw new Error(`daemon ${this.options.name}: is not running`)
    return pid
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && !this.#child.killed
  }

  get logPath(): string {
    return join(this.options.directory, `${this.options.name}.log`)
  }

  /** Starts the process and resolves when its API answers. */
  async start(): Promise<void> {
    mkdirSync(this.dataDirectory, { recursive: true })
    const arguments_ = [
      ...['daemon', '--data-dir', this.dataDirectory, '--socket', this.socket],
      ...['--listen-addr', this.options.listenAddress, '--hostname', this.options.name],
    ]
    const [command, ...rest] = [...(this.options.wrapper ?? []), SKEIN, ...arguments_]
    const log = openSync(this.logPath, 'a')
    const env = { ...process.env, ...this.options.env }
    this.#child = spawn(command ?? SKEIN, rest, {
      stdio: ['ignore', log, log],
      detached: true,
      env,
    })
    closeSync(log)
    await this.#untilAnswering()
  }

  /** Ends the process with `signal` and waits for its end. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((done) => child.once('exit', done))
    child.kill(signal)
    await ended
  }

  /** Sends a signal without waiting, e.g. SIGSTOP. */
  signal(signal: NodeJS.Signals): void {
    process.kill(this.pid, signal)
  }

  /** What the daemon wrote. */
  log(): string {
    return readFileSync(this.logPath, 'utf8')
  }

  async #untilAnswering(): Promise<void> {
    const deadline = Date.now() + START_LIMIT_MS * PATIENCE
    while (Date.now() < deadline) {
      if (this.#child?.exitCode !== null && this.#child?.exitCode !== undefined) {
        throw new Error(`daemon ${this.options.name}: ended at once:\n${this.log()}`)
      }
      if (await this.#answers()) return
      await sleep(PING_INTERVAL_MS * PATIENCE)
    }
    throw new Error(`daemon ${this.options.name}: does not answer:\n${this.log()}`)
  }

  #answers(): Promise<boolean> {
    return new Promise((done) => {
      const ping = request({ socketPath: this.socket, path: '/_ping' }, (response) => {
        response.resume()
        done(response.statusCode === 200)
      })
      ping.on('error', () => done(false))
      ping.end()
    })
  }
}

/** Result of one command. */
export interface CommandResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command to its end. */
export function run(
  command: string,
  arguments_: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly timeoutMs?: number } = {},
): Promise<CommandResult> {
  return new Promise((done, fail) => {
    const child = spawn(command, arguments_, {
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: (options.timeoutMs ?? COMMAND_LIMIT_MS) * PATIENCE,
    })
    const output = { stdout: '', stderr: '' }
    child.stdout.on('data', (chunk: Buffer) => (output.stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output.stderr += chunk.toString()))
    child.once('error', fail)
    child.once('close', (code, signal) => {
      done({ code: code ?? (signal === null ? 1 : 128), ...output })
    })
  })
}

/** `./skein ARGUMENTS` against a daemon. */
export function skein(daemon: Daemon, ...arguments_: readonly string[]): Promise<CommandResult> {
  return run(SKEIN, ['--host', `unix://${daemon.socket}`, ...arguments_])
}

/** Like {@link skein}, trimmed standard output; throws unless the command exits with 0. */
export async function skeinOk(daemon: Daemon, ...arguments_: readonly string[]): Promise<string> {
  const result = await skein(daemon, ...arguments_)
  if (result.code !== 0) {
    const what = `skein ${arguments_.join(' ')}: exit ${result.code}`
    throw new Error(`${what}\n${result.stdout}${result.stderr}`)
  }
  return result.stdout.trim()
}

/** Polls `probe` until it gives something other than undefined or false. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false>,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs * PATIENCE
  let failure: unknown
  while (Date.now() < deadline) {
    try {
      const value = await probe()
      if (value !== undefined && value !== false) return value
    } catch (error) {
      failure = error
    }
    await sleep(PROBE_INTERVAL_MS * PATIENCE)
  }
  const last = failure === undefined ? '' : `; last: ${errorText(failure)}`
  throw new Error(`waited ${timeoutMs * PATIENCE} ms in vain for: ${what}${last}`, {
    cause: failure,
  })
}

/** One API call; the parsed JSON answer, or undefined when there is no body. Throws from 400 on. */
export function api(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
): Promise<unknown> {
  return new Promise((done, fail) => {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const headers = text === undefined ? {} : { 'content-type': 'application/json' }
    const call = request({ socketPath, method, path, headers }, (response) => {
      let answer = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (answer += chunk))
      response.on('end', () => {
        const status = response.statusCode ?? 0
        if (status >= 400) fail(new Error(`${method} ${path}: ${status} ${answer.trim()}`))
        else done(answer === '' ? undefined : (JSON.parse(answer) as unknown))
      })
      response.on('error', fail)
    })
    call.on('error', fail)
    call.end(text)
  })
}
