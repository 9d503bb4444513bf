/**
 * Runs the command of one health check beside its container, to its end or to its timeout.
 *
 * Invariants: at most `CHECK_OUTPUT_BYTES_MAX` of what it prints are kept, the rest is read and
 * dropped, so that it never waits for us. After its timeout, or when it is withdrawn, its whole
 * process group is killed; what it left in the background goes with its end, so that nothing piles
 * up.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import type { Clock } from '../../base/clock.ts'
import { errorText } from '../../base/errors.ts'
import type { CheckResult } from '../ports.ts'
import { killGroup, killOrphans, markProcess } from '../process-mark.ts'

/** Most bytes kept of what a check prints: Docker's. */
export const CHECK_OUTPUT_BYTES_MAX = 4096

/** Milliseconds that the rest of the output has to arrive after the check has ended. */
const DRAIN_MS = 100

/** Milliseconds that a killed check has to vanish; beyond, its result does not wait for it. */
const VANISH_MS = 2_000

/** A check to run. */
export interface CheckCommand {
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly user?: { readonly uid: number; readonly gid: number }
  /** Ends what the check has begun outside of the command's process group. */
  readonly sweep?: () => Promise<void>
  readonly timeoutMs: number
  /** Withdraws the check: its result means nothing then. */
  readonly signal: AbortSignal
}

/** Runs a check. Never throws: a check that cannot run has failed. */
export async function runCheck(clock: Clock, command: CheckCommand): Promise<CheckResult> {
  let child
  try {
    child = start(command)
  } catch (error) {
    return { exitCode: undefined, output: errorText(error), isGone: () => true }
  }
  const group = child.pid === undefined ? undefined : markProcess(child.pid)
  const output = new Output(child)
  const ended = endOf(child)
  let hasEnded = false
  const isGone = (): boolean => hasEnded
  const reason = await untilEndOr(
    clock,
    ended.finally(() => (hasEnded = true)),
    command,
  )
  if (reason === undefined) {
    const { exitCode, fault } = await ended
    await settlesWithin(clock, output.closed, DRAIN_MS)
    if (group !== undefined) killOrphans(group)
    await command.sweep?.()
    output.close()
    return { exitCode, output: output.text(fault), isGone }
  }
  if (group !== undefined && !isGone()) killGroup(group.pid)
  await command.sweep?.()
  await settlesWithin(clock, ended, VANISH_MS)
  output.close()
  return { exitCode: undefined, output: output.text(reason), isGone }
}

/** @throws TypeError for words that no program can be given */
function start(command: CheckCommand): ChildProcess {
  const [file = '', ...words] = command.argv
  return spawn(file, words, {
    // A session of its own: one kill reaches all of it, and no signal of ours does.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...command.env },
    ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
    ...command.user,
  })
}

interface CheckEnd {
  readonly exitCode: number | undefined
  /** Why it could not be run at all. */
  readonly fault?: string
}

/** Its exit, not the end of its pipes: a child in the background may hold those for ever. */
function endOf(child: ChildProcess): Promise<CheckEnd> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ exitCode: undefined, fault: errorText(error) }))
    child.once('exit', (code) => resolve({ exitCode: code ?? undefined }))
  })
}

/** Undefined when it ended in time, else why it must go. */
async function untilEndOr(
  clock: Clock,
  ended: Promise<CheckEnd>,
  { timeoutMs, signal }: CheckCommand,
): Promise<string | undefined> {
  const over = Promise.withResolvers<string>()
  const withdraw = (): void => over.resolve('withdrawn')
  if (signal.aborted) withdraw()
  signal.addEventListener('abort', withdraw, { once: true })
  const timer = clock.after(timeoutMs, () => {
    over.resolve(`health check exceeded timeout (${timeoutMs} ms)`)
  })
  try {
    return await Promise.race([ended.then(() => undefined), over.promise])
  } finally {
    timer.cancel()
    signal.removeEventListener('abort', withdraw)
  }
}

/** Whether `promise` settles within the time. */
async function settlesWithin(
  clock: Clock,
  promise: Promise<unknown>,
  limitMs: number,
): Promise<boolean> {
  const late = Promise.withResolvers<boolean>()
  const timer = clock.after(limitMs, () => late.resolve(false))
  try {
    return await Promise.race([promise.then(() => true), late.promise])
  } finally {
    timer.cancel()
  }
}

/** The first bytes of both streams, as they come. */
class Output {
  readonly #child: ChildProcess
  readonly #chunks: Buffer[] = []
  /** Resolves when nobody can print any more. */
  readonly closed: Promise<void>
  #size = 0

  constructor(child: ChildProcess) {
    this.#child = child
    this.closed = new Promise((resolve) => {
      child.once('close', () => resolve())
      child.once('error', () => resolve())
    })
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => this.#add(chunk))
    }
  }

  close(): void {
    this.#child.stdout?.destroy()
    this.#child.stderr?.destroy()
  }

  /** What it printed, or in its absence `instead`. */
  text(instead = ''): string {
    const printed = Buffer.concat(this.#chunks).toString('utf8').trim()
    if (instead === '') return printed
    return printed === '' ? instead : `${instead}: ${printed}`
  }

  #add(chunk: Buffer): void {
    const room = CHECK_OUTPUT_BYTES_MAX - this.#size
    if (room <= 0) return
    this.#chunks.push(chunk.subarray(0, room))
    this.#size += Math.min(room, chunk.length)
  }
}
