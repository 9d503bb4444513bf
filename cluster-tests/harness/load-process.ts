/** Clients in a process of their own, as tests start them. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { ROOT } from './daemon.ts'
import type { LoadOptions, LoadReport } from './load.ts'

/** Clients that ask. */
export interface LoadProcess {
  /** Resolves when they ask. */
  readonly begun: Promise<unknown>
  /** Resolves with what they went through when their last requests have ended. */
  stop(): Promise<LoadReport>
}

/** Whom to ask, and how. */
export interface LoadTarget {
  /** Words before the command; they put it where clients are. */
  readonly wrapper: readonly string[]
  readonly host: string
  readonly port: number
  readonly options?: LoadOptions
}

/** Starts clients. */
export function startLoad({ wrapper, host, port, options = {} }: LoadTarget): LoadProcess {
  const script = join(ROOT, 'cluster-tests/harness/load-client.ts')
  const argv = [...wrapper, process.execPath, script, host, String(port), JSON.stringify(options)]
  const child = spawn(argv[0] ?? '', argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()))
  const ended = new Promise((done) => child.once('close', done))
  // The first line says that signals are minded from now on.
  const begun = new Promise((done) => child.stdout.once('data', done))
  return {
    begun,
    async stop() {
      await Promise.race([begun, ended])
      child.kill('SIGTERM')
      await ended
      return JSON.parse(text.slice(text.indexOf('\n') + 1)) as LoadReport
    },
  }
}
