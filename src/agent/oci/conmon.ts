/**
 * conmon as the monitor: 2 MB a container, log lines with time and stream, exit code and
 * out-of-memory mark in files.
 *
 * Protocol: conmon waits for a byte on `_OCI_STARTPIPE`, forks away into its own session, runs
 * `<runtime> create`, and writes one JSON line to `_OCI_SYNCPIPE`: `{"data": pid}`, or a negative
 * number with the runtime's words in `message`. The descriptors' numbers go by environment.
 * Source: conmon 2.1 `src/conmon.c`, `write_sync_fd`; reference runtime §1.3.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { basename } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { assert } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import { toolEnvironment } from '../run-command.ts'
import { LOG_BYTES_MAX } from '../task-log.ts'
import type { TaskFiles } from '../task-files.ts'
import { readPidFile } from '../task-files.ts'
import type { Monitor } from './monitor.ts'
import { startContainer, wrapForCreate } from './runtime.ts'
import type { OciRuntime } from './runtime.ts'

const SYNC_DESCRIPTOR = 3
const START_DESCRIPTOR = 4

/** Most bytes read of conmon's answer. */
const ANSWER_BYTES_MAX = 64 * 1024

/** conmon at `path`. */
export class ConmonMonitor implements Monitor {
  readonly name = 'conmon'
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  async create(runtime: OciRuntime, files: TaskFiles): Promise<number> {
    const argv = wrapForCreate(runtime, [this.#path, ...conmonArguments(runtime, files)])
    const answer = await this.#spawn(argv, files)
    return pidFromAnswer(answer, files.id)
  }

  async start(runtime: OciRuntime, files: TaskFiles): Promise<number> {
    await startContainer(runtime, files.id)
    const pid = await readPidFile(files.pid)
    assert(pid !== undefined, `container ${files.id}: started without a pid file`)
    return pid
  }

  #spawn(argv: readonly string[], files: TaskFiles): Promise<string> {
    const output = openSync(files.monitorLog, 'a', 0o600)
    try {
      const [file = '', ...args] = argv
      const child = spawn(file, args, {
        detached: true,
        stdio: ['ignore', output, output, 'pipe', 'pipe'],
        cwd: files.directory,
        env: {
          ...toolEnvironment(),
          _OCI_SYNCPIPE: String(SYNC_DESCRIPTOR),
          _OCI_STARTPIPE: String(START_DESCRIPTOR),
        },
      })
      const failure = new Promise<never>((_, reject) => {
        child.once('error', (cause) => {
          reject(new SwarmError('RUNTIME_FAILED', `${file}: cannot run it`, { cause }))
        })
      })
      child.unref()
      // Node types the extra descriptors loosely; 'pipe' above makes them what is said here.
      release(child.stdio[START_DESCRIPTOR] as Writable)
      return Promise.race([readAnswer(child.stdio[SYNC_DESCRIPTOR] as Readable), failure])
    } finally {
      closeSync(output)
    }
  }
}

function conmonArguments(runtime: OciRuntime, files: TaskFiles): string[] {
  return [
    '--api-version=1',
    `--cid=${files.id}`,
    `--cuuid=${files.id}`,
    `--name=${files.id}`,
    `--runtime=${runtime.path}`,
    `--runtime-arg=--root=${runtime.stateRoot}`,
    `--bundle=${files.directory}`,
    `--container-pidfile=${files.pid}`,
    `--conmon-pidfile=${files.monitorPid}`,
    `--exit-dir=${files.exitDirectory}`,
    `--persist-dir=${files.exitDirectory}`,
    // Relative to the bundle: conmon takes what is before a colon for a driver's name.
    `--log-path=k8s-file:${basename(files.log)}`,
    `--log-size-max=${LOG_BYTES_MAX}`,
    '--log-level=error',
    '--no-sync-log',
    '--full-attach',
  ]
}

/** The byte that conmon waits for; we have nothing left to do before it creates. */
function release(pipe: Writable): void {
  // conmon may have failed already; its answer tells, not this pipe.
  pipe.on('error', () => {})
  pipe.end('\0')
}

async function readAnswer(pipe: Readable): Promise<string> {
  let text = ''
  for await (const chunk of pipe as AsyncIterable<Buffer>) {
    text += chunk.toString('utf8')
    if (text.includes('\n') || text.length > ANSWER_BYTES_MAX) break
  }
  return text.split('\n')[0] ?? ''
}

function pidFromAnswer(answer: string, id: string): number {
  const value = parseAnswer(answer)
  const pid = value['data'] ?? value['pid']
  if (typeof pid === 'number' && pid > 0) return pid
  const message = value['message']
  const words = typeof message === 'string' && message !== '' ? message.trim() : 'no answer'
  throw new SwarmError('RUNTIME_FAILED', `container ${id}: ${words}`)
}

function parseAnswer(answer: string): Record<string, unknown> {
  try {
    return JSON.parse(answer) as Record<string, unknown>
  } catch {
    // Not JSON: conmon died before it could answer. The caller says so.
    return {}
  }
}
