/**
 * Requests from a namespace. An emulated processor is slow to start programs, so one `curl` makes
 * many, each by a connection of its own.
 */
import { spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { TestHosts } from '../harness/hosts.ts'

/** A request that takes longer has failed; under load an emulated machine takes seconds. */
const REQUEST_LIMIT_S = 15
/** Of one load. */
const REQUESTS_PER_SECOND = 3
const ENDLESS = 1_000_000

/** What came back. */
export interface Answers {
  /** How often each answer. */
  readonly answers: ReadonlyMap<string, number>
  readonly asked: number
  readonly failed: number
  /** What went wrong, and when after the first request; in order. */
  readonly failures: readonly string[]
  /** From the first failure to the last, in milliseconds. */
  readonly failingMs: number
  readonly slowestMs: number
}

/** How to ask. */
export interface AskOptions {
  /** Address to ask from. */
  readonly from?: string
  /** Default {@link REQUEST_LIMIT_S}. */
  readonly limitS?: number
}

/** Asks `url` from a namespace `times` times, one after another. */
export async function ask(
  namespace: string,
  url: string,
  times: number,
  options: AskOptions = {},
): Promise<Answers> {
  const record = new Asking(curl(namespace, [...words(options), `${url}?[1-${times}]`]))
  return record.end()
}

/** Asks from now on until it is stopped. */
export function load(
  namespace: string,
  url: string,
  options: AskOptions = {},
): { stop(): Promise<Answers> } {
  const rate = ['--rate', `${REQUESTS_PER_SECOND}/s`]
  const child = curl(namespace, [...rate, ...words(options), `${url}?[1-${ENDLESS}]`])
  const record = new Asking(child)
  return {
    stop() {
      child.kill('SIGTERM')
      return record.end()
    },
  }
}

/** One request whose answer never ends. */
export class Stream {
  readonly #child: ChildProcessByStdio<null, Readable, null>
  #lines = 0

  constructor(namespace: string, url: string) {
    this.#child = curl(namespace, [url])
    createInterface(this.#child.stdout).on('line', () => {
      this.#lines += 1
    })
  }

  /** Lines that came so far. */
  get lines(): number {
    return this.#lines
  }

  get isOpen(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  close(): void {
    this.#child.kill('SIGTERM')
  }
}

function words({ from, limitS = REQUEST_LIMIT_S }: AskOptions): string[] {
  const format = String.raw`status %{exitcode} %{http_code} %{time_total}\n`
  const source = from === undefined ? [] : ['--interface', from]
  return ['-m', String(limitS), '-H', 'Connection: close', '-w', format, ...source]
}

function curl(
  namespace: string,
  more: readonly string[],
): ChildProcessByStdio<null, Readable, null> {
  const command = [...TestHosts.inside(namespace).slice(1), 'curl', '-sN', ...more]
  return spawn('nsenter', command, { stdio: ['ignore', 'pipe', 'ignore'] })
}

/** Reads what a `curl` with the format of {@link words} prints. */
class Asking {
  readonly #answers = new Map<string, number>()
  readonly #failuresMs: number[] = []
  readonly #failures: string[] = []
  readonly #beganMs = performance.now()
  readonly #ended: Promise<unknown>
  #answer = ''
  #asked = 0
  #slowestMs = 0

  constructor(child: ChildProcessByStdio<null, Readable, null>) {
    const lines = createInterface(child.stdout)
    lines.on('line', (line) => this.#read(line))
    this.#ended = Promise.all([once(child, 'exit'), once(lines, 'close')])
  }

  async end(): Promise<Answers> {
    await this.#ended
    const failures = this.#failuresMs
    return {
      answers: this.#answers,
      asked: this.#asked,
      failed: failures.length,
      failures: this.#failures,
      failingMs: Math.round((failures.at(-1) ?? 0) - (failures[0] ?? 0)),
      slowestMs: Math.round(this.#slowestMs),
    }
  }

  #fail(what: string): void {
    const nowMs = performance.now()
    this.#failuresMs.push(nowMs)
    this.#failures.push(`after ${Math.round(nowMs - this.#beganMs)} ms: ${what}`)
  }

  #read(line: string): void {
    const status = /^status (\d+) (\d+) ([\d.]+)$/.exec(line)
    if (status === null) {
      this.#answer = line.trim()
      return
    }
    const [, exit, code, seconds] = status
    this.#asked += 1
    this.#slowestMs = Math.max(this.#slowestMs, Number(seconds) * 1_000)
    if (exit === '0' && code === '200') {
      this.#answers.set(this.#answer, (this.#answers.get(this.#answer) ?? 0) + 1)
    } else this.#fail(`curl ${exit}, status ${code}, ${seconds} s`)
    this.#answer = ''
  }
}
