/** One window of load: `wrk` in the clients' namespace. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Requests on connections that stay, or a connection for each. */
export type LoadKind = 'keep-alive' | 'new connections'

/** What to send. */
export interface Load {
  /** Path of the clients' namespace. */
  readonly netns: string
  readonly url: string
  readonly kind: LoadKind
  readonly connections: number
  readonly seconds: number
}

/** What came back. */
export interface LoadResult {
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
}

const UNIT_MS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1_000 }

/** Sends for a while. @throws Error when a request failed */
export async function sendLoad(load: Load): Promise<LoadResult> {
  const header = load.kind === 'keep-alive' ? [] : ['-H', 'Connection: close']
  const { stdout } = await run('nsenter', [
    ...[`--net=${load.netns}`, 'wrk', '--latency', '-t1'],
    ...[`-c${load.connections}`, `-d${load.seconds}s`],
    ...header,
    load.url,
  ])
  const isBad = stdout.includes('Socket errors') || stdout.includes('Non-2xx')
  if (isBad) throw new Error(`${load.kind} to ${load.url}: ${stdout}`)
  return {
    perSecond: Number(field(stdout, /Requests\/sec:\s+([\d.]+)/)[1]),
    p50Ms: percentile(stdout, 50),
    p99Ms: percentile(stdout, 99),
  }
}

function percentile(text: string, percent: number): number {
  const [, value, unit = ''] = field(text, new RegExp(`${percent}%\\s+([\\d.]+)(us|ms|s)`))
  return Number(value) * (UNIT_MS[unit] ?? NaN)
}

function field(text: string, pattern: RegExp): RegExpExecArray {
  const match = pattern.exec(text)
  if (match === null) throw new Error(`wrk: no ${pattern.source} in ${text}`)
  return match
}
