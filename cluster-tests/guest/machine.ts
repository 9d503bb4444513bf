/**
 * A virtual machine's process. It dies with this process, however that ends, and takes everything
 * it started along: it runs in a process namespace whose first process is a shell. User Mode Linux
 * must not be that first process itself: it ends a panic by aborting itself, which process 1
 * ignores. With `SKEIN_GUEST_NICE` it leaves processors to others, as `nice` does.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess, StdioOptions } from 'node:child_process'
import type { Readable } from 'node:stream'

/** A program to start. Descriptor 1 and 2 are its own words, from 3 on `pipes` to read. */
export interface MachineOptions {
  readonly command: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  readonly pipes: number
  readonly timeoutMs: number
}

/** What a machine's process said. */
export interface MachineEnd {
  readonly isTimedOut: boolean
  /** Standard output and error of the process itself. */
  readonly words: string
  /** What came through each pipe. */
  readonly pipes: readonly string[]
}

const IN_NAMESPACE = [
  'unshare',
  '--pid',
  '--fork',
  '--kill-child=KILL',
  'sh',
  '-c',
  '"$@"; exit $?',
  'guest',
]
const FIRST_PIPE = 3
/** A session has a share of its own of the processors, so it is told as well as the process. */
const STANDING_BACK = [
  'sh',
  '-c',
  '[ ! -w /proc/self/autogroup ] || echo "$0" >/proc/self/autogroup; exec nice -n "$0" "$@"',
]

/** Runs the program to its end. */
export async function runMachine(options: MachineOptions): Promise<MachineEnd> {
  const isRoot = process.geteuid?.() === 0
  const { SKEIN_GUEST_NICE: nice } = process.env
  const around = [
    ...['--pdeathsig', 'KILL'],
    ...(nice === undefined ? [] : [...STANDING_BACK, nice]),
    ...(isRoot ? IN_NAMESPACE : []),
  ]
  const stdio: StdioOptions = [
    'ignore',
    'pipe',
    'pipe',
    ...Array<'pipe'>(options.pipes).fill('pipe'),
  ]
  const child = spawn('setpriv', [...around, ...options.command], {
    stdio,
    detached: true,
    env: options.environment,
  })
  const words = Promise.all([textOf(child, 1), textOf(child, 2)])
  const pipes = Array.from({ length: options.pipes }, (_, index) =>
    textOf(child, FIRST_PIPE + index),
  )
  let isTimedOut = false
  const timer = setTimeout(() => {
    isTimedOut = true
    killGroup(child)
  }, options.timeoutMs)
  try {
    await ended(child)
    return { isTimedOut, words: (await words).join(''), pipes: await Promise.all(pipes) }
  } finally {
    clearTimeout(timer)
  }
}

function ended(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', () => resolve())
  })
}

/** Everything that one of the child's outputs says. */
async function textOf(child: ChildProcess, descriptor: number): Promise<string> {
  const stream = child.stdio[descriptor] as Readable
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise((resolve) => {
    stream.once('close', resolve)
    // A guest that dies resets the connection; what came before counts.
    stream.on('error', () => {})
  })
  return Buffer.concat(chunks).toString('utf8')
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null) return
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch (error) {
    // It ended meanwhile.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}
