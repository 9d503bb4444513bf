/**
 * raft-ts beside etcd: `node bench/raft/run.ts [--quick] [--rounds N] [--seconds N] …`. All sides
 * run all the time; windows alternate between them, and each round gives a ratio. One JSON line a
 * measurement, then the tables. See bench/README.md.
 */
import { spawnSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { markdownTable, summarise } from '../statistics.ts'
import { Generator } from './generator.ts'
import type { LoopResult, TransferResult } from './load.ts'
import { SIDES, Side, type SideName } from './sides.ts'

const { values: options } = parseArgs({
  options: {
    idle: { type: 'string' },
    quick: { type: 'boolean', default: false },
    sides: { type: 'string', default: SIDES.join() },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    'in-flight': { type: 'string' },
    reads: { type: 'string', default: '64' },
    failovers: { type: 'string' },
    transfers: { type: 'string' },
    entries: { type: 'string', default: '0' },
    'fsync-ms': { type: 'string', default: '0' },
    'snapshot-threshold': { type: 'string', default: '20000' },
    profile: { type: 'string' },
  },
})
const { quick } = options
if (options.idle !== undefined) {
  const idle = new URL('idle.ts', import.meta.url).pathname
  const { status } = spawnSync(process.execPath, [idle, '--seconds', options.idle], {
    stdio: 'inherit',
  })
  process.exit(status ?? 1)
}
const rounds = Number(options.rounds ?? (quick ? 2 : 5))
const windowMs = Number(options.seconds ?? (quick ? 1 : 3)) * 1000
const warmUpMs = quick ? 300 : 700
/** All sides get this before anything is measured: servers that have run for a while are measured. */
const STEADY = { inFlight: 64, ms: quick ? 500 : 6_000 } as const
/** A window in which other work took more of the machine, in cores, is measured again, so often. */
const FOREIGN_CORES_MAX = 0.3
const ATTEMPTS_MAX = 4
const inFlights = (options['in-flight'] ?? (quick ? '16,256' : '1,16,64,256'))
  .split(',')
  .map(Number)
const failovers = Number(options.failovers ?? (quick ? 1 : 5))
const transfers = Number(options.transfers ?? (quick ? 1 : 3))
const names = SIDES.filter((name) => options.sides.split(',').includes(name))

const say = (text: string): void => void process.stderr.write(`${text}\n`)
const record = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`)

type Kind = 'put' | 'get'
type Windows = Map<string, Map<SideName, LoopResult[]>>

async function measureLoops(generator: Generator, sides: readonly Side[]): Promise<Windows> {
  const plans = [
    ...inFlights.map((inFlight) => ({ kind: 'put' as Kind, inFlight })),
    ...(options.reads === '0' ? [] : [{ kind: 'get' as Kind, inFlight: Number(options.reads) }]),
  ]
  const windows: Windows = new Map()
  await settle(generator, sides)
  for (const { kind, inFlight } of plans) {
    const results = new Map<SideName, LoopResult[]>(sides.map(({ name }) => [name, []]))
    windows.set(`${kind} ${inFlight}`, results)
    for (let round = 1; round <= rounds; round += 1) {
      for (const side of round % 2 === 1 ? sides : sides.toReversed()) {
        const result = await measureWindow(generator, side, { kind, inFlight })
        results.get(side.name)?.push(result)
        record({ measure: kind, inFlight, side: side.name, round, ...result })
      }
    }
    say(`${kind} ${inFlight} in flight: done`)
  }
  return windows
}

/** One window without much foreign work; the last one when there is none. */
async function measureWindow(
  generator: Generator,
  side: Side,
  plan: { readonly kind: Kind; readonly inFlight: number },
): Promise<LoopResult> {
  for (let attempt = 1; ; attempt += 1) {
    const leader = await leaderOf(generator, side)
    const { target, pids } = side
    const order = { type: 'loop', target, leader, ...plan, warmUpMs, windowMs, pids } as const
    const result = await generator.order<LoopResult>(order)
    if (result.foreignCores <= FOREIGN_CORES_MAX || attempt === ATTEMPTS_MAX) return result
    say(`${side.name}: ${result.foreignCores.toFixed(1)} cores of other work, measured again`)
  }
}

/** Lets compilers and caches settle on every side. */
async function settle(generator: Generator, sides: readonly Side[]): Promise<void> {
  for (const side of sides) {
    const leader = await leaderOf(generator, side)
    const { target, pids } = side
    const { inFlight, ms } = STEADY
    const order = { type: 'loop', target, leader, kind: 'put', inFlight, warmUpMs: 0 } as const
    await generator.order<LoopResult>({ ...order, windowMs: ms, pids })
  }
}

function leaderOf(generator: Generator, { target }: Side): Promise<number> {
  return generator.order<number>({ type: 'leader', target })
}

async function measureFailover(generator: Generator, side: Side, times: number): Promise<number[]> {
  const results: number[] = []
  for (let n = 0; n < times; n += 1) {
    const leader = await leaderOf(generator, side)
    const pid = side.pids[leader] ?? 0
    const { target } = side
    const tookMs = await generator.order<number>({ type: 'failover', target, leader, pid })
    await side.gone(leader)
    await side.startServer(leader, false)
    await leaderOf(generator, side)
    results.push(tookMs)
    record({ measure: 'failover', side: side.name, tookMs })
  }
  return results
}

async function measureTransfer(
  generator: Generator,
  side: Side,
  times: number,
): Promise<TransferResult[]> {
  const results: TransferResult[] = []
  for (let n = 0; n < times; n += 1) {
    const leader = await leaderOf(generator, side)
    const { target } = side
    const to = (leader + 1) % target.ports.length
    const result = await generator.order<TransferResult>({ type: 'transfer', target, leader, to })
    results.push(result)
    record({ measure: 'transfer', side: side.name, ...result })
  }
  return results
}

async function fill(generator: Generator, side: Side, entries: number): Promise<void> {
  const leader = await leaderOf(generator, side)
  const { target } = side
  const failures = await generator.order<number>({ type: 'fill', target, leader, count: entries })
  record({ measure: 'memory', side: side.name, entries, failures, mebibytes: side.memory() })
}

const range = (values: readonly number[], digits: number): string => {
  if (values.length === 0) return '–'
  const { median, min, max } = summarise(values)
  return `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`
}

function ratios(
  results: ReadonlyMap<SideName, readonly LoopResult[]>,
  name: SideName,
  value: (result: LoopResult) => number,
): string {
  const base = results.get('etcd')
  if (name === 'etcd' || base === undefined) return ''
  const own = results.get(name) ?? []
  return range(
    own.flatMap((result, n) => (base[n] === undefined ? [] : [value(result) / value(base[n])])),
    2,
  )
}

function loopTable(windows: Windows): string {
  const heading = [
    'load',
    'side',
    'per second',
    '× etcd',
    'p50 ms',
    '× etcd',
    'p99 ms',
    '× etcd',
    'server µs each',
    'client core',
  ]
  const rows = [...windows].flatMap(([load, results]) =>
    names.map((name) => {
      const own = results.get(name) ?? []
      const column = (value: (result: LoopResult) => number, digits: number): string =>
        range(own.map(value), digits)
      return [
        load,
        name,
        column(({ perSecond }) => perSecond, 0),
        ratios(results, name, ({ perSecond }) => perSecond),
        column(({ p50Ms }) => p50Ms, 2),
        ratios(results, name, ({ p50Ms }) => p50Ms),
        column(({ p99Ms }) => p99Ms, 1),
        ratios(results, name, ({ p99Ms }) => p99Ms),
        column(({ serverMicros }) => serverMicros, 0),
        column(({ clientShare }) => clientShare, 2),
      ]
    }),
  )
  return markdownTable([heading, ...rows])
}

const started: Side[] = []
try {
  for (const name of names) {
    const sideOptions = {
      fsyncMs: Number(options['fsync-ms']),
      snapshotThreshold: Number(options['snapshot-threshold']),
      ...(options.profile === undefined ? {} : { profile: options.profile }),
    }
    started.push(await Side.start(name, sideOptions))
  }
  await using generator = new Generator()
  for (const side of started) await leaderOf(generator, side)
  const windows = await measureLoops(generator, started)
  const rest: string[][] = [['', ...names]]
  const memory = started.map((side) => side.memory())
  rest.push(['memory after the loops, MiB a server', ...memory.map((each) => range(each, 0))])
  const transferred: TransferResult[][] = []
  for (const side of started) transferred.push(await measureTransfer(generator, side, transfers))
  rest.push([
    'transfer: gap in writes, ms',
    ...transferred.map((each) =>
      range(
        each.map(({ gapMs }) => gapMs),
        1,
      ),
    ),
  ])
  rest.push([
    'transfer: failed writes',
    ...transferred.map((each) => String(each.reduce((sum, { failures }) => sum + failures, 0))),
  ])
  const failed: number[][] = []
  for (const side of started) failed.push(await measureFailover(generator, side, failovers))
  rest.push(['failover after SIGKILL, ms', ...failed.map((each) => range(each, 0))])
  const entries = Number(options.entries)
  if (entries > 0) {
    for (const side of started) await fill(generator, side, entries)
    rest.push([
      `memory after ${entries} more entries, MiB`,
      ...started.map((side) => range(side.memory(), 0)),
    ])
  }
  process.stdout.write(`\n${loopTable(windows)}\n\n${markdownTable(rest)}\n`)
} finally {
  for (const side of started) await side[Symbol.asyncDispose]()
}
