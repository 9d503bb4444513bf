/**
 * Requests a second and p99 through each balancer, relative to direct: on this machine's kernel, or
 * in a throw-away kernel that has IPVS. Ways alternate in each round; a round gives a ratio.
 *
 * `node bench/network/throughput.ts [host] [uml] [qemu] [--rounds 5] [--seconds 2] [--connections 16]`
 */
import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { missingGuest, runInGuest } from '../../cluster-tests/guest/run-in-guest.ts'
import { markdownTable, rangeText, summarise } from '../statistics.ts'
import { foreignCores, readForeign } from './foreign.ts'
import { GUEST_TIMEOUT_MS } from './guest-time.ts'
import { sendLoad } from './load.ts'
import type { LoadKind, LoadResult } from './load.ts'
import { makeSite } from './site.ts'
import type { Site } from './site.ts'
import { WAYS, Ways } from './ways.ts'
import type { Kernel, WayName } from './ways.ts'

const INSIDE = 'SKEIN_BENCH_INSIDE'
/** Between them all drivers; `uml` is for those who ask. */
const DEFAULT_KERNELS: readonly Kernel[] = ['host', 'qemu']
const KINDS: readonly LoadKind[] = ['keep-alive', 'new connections']
/** A backend that got less than this share of a fair one was left out. */
const FAIR_MIN = 0.5

interface Plan {
  readonly kernel: Kernel
  readonly rounds: number
  readonly seconds: number
  readonly connections: number
}

interface Measured extends LoadResult {
  /** Processor time of the balancer's process for each request; NaN where there is none. */
  readonly cpuUs: number
}

type Results = Map<string, Measured[]>

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

function readPlans(): readonly Plan[] {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '2' },
      connections: { type: 'string', default: '16' },
    },
  })
  const rounds = Number(values.rounds)
  const seconds = Number(values.seconds)
  const connections = Number(values.connections)
  const kernels = positionals.length > 0 ? positionals : DEFAULT_KERNELS
  return kernels.map((kernel) => ({ kernel: kernelOf(kernel), rounds, seconds, connections }))
}

function kernelOf(name: string): Kernel {
  if (name === 'host' || name === 'uml' || name === 'qemu') return name
  throw new Error(`kernel "${name}": host, uml or qemu`)
}

/** One window; all backends must have had their share of what a balancer spread. */
async function measure(
  site: Site,
  ways: Ways,
  task: { readonly plan: Plan; readonly name: WayName; readonly kind: LoadKind },
): Promise<Measured> {
  const { plan, name, kind } = task
  const way = await ways.way(name)
  try {
    const before = await site.accepted()
    const { connections, seconds } = plan
    const netns = site.stage.clientNetns
    const beganMs = way.cpuMs?.() ?? NaN
    const result = await sendLoad({ netns, url: way.url, kind, connections, seconds })
    const after = await site.accepted()
    const shares = after.map((count, index) => count - (before[index] ?? 0))
    const total = shares.reduce((sum, count) => sum + count, 0)
    const least = name === 'direct' ? total : Math.min(...shares) * shares.length
    // Sixteen random choices say little; hundreds do.
    if (kind !== 'keep-alive' && least < total * FAIR_MIN) {
      throw new Error(`${name}: backends got ${shares.join(', ')} connections`)
    }
    const cpuMs = (way.cpuMs?.() ?? NaN) - beganMs
    return { ...result, cpuUs: (cpuMs * 1_000) / (result.perSecond * seconds) }
  } finally {
    await way.close()
  }
}

async function inside(plan: Plan): Promise<void> {
  const site = await makeSite()
  const ways = await Ways.open(site, plan.kernel)
  const results: Results = new Map()
  const began = readForeign()
  try {
    // The first round compiles and learns neighbours.
    await measureRound({ site, ways, plan, round: 0, results: new Map() })
    for (let round = 1; round <= plan.rounds; round += 1) {
      await measureRound({ site, ways, plan, round, results })
    }
  } finally {
    await ways.close()
    await site.remove()
  }
  report(plan, results)
  if (plan.kernel === 'host') tellForeign(foreignCores(began, readForeign()))
}

interface Round {
  readonly site: Site
  readonly ways: Ways
  readonly plan: Plan
  readonly round: number
  readonly results: Results
}

async function measureRound({ site, ways, plan, round, results }: Round): Promise<void> {
  const names = round % 2 === 0 ? WAYS[plan.kernel] : WAYS[plan.kernel].toReversed()
  for (const kind of KINDS) {
    for (const name of names) {
      const result = await measure(site, ways, { plan, name, kind })
      say(`${round} ${kind} ${name} ${JSON.stringify(result)}`)
      const key = `${kind} ${name}`
      results.set(key, [...(results.get(key) ?? []), result])
    }
  }
}

function report(plan: Plan, results: Results): void {
  const rows = [
    ['kernel, load', 'way', 'requests/s', '× direct', 'p99, ms', 'p99 × direct', 'µs each'],
  ]
  for (const kind of KINDS) {
    const direct = results.get(`${kind} direct`) ?? []
    for (const name of WAYS[plan.kernel]) {
      const own = results.get(`${kind} ${name}`) ?? []
      const ratio = (of: (result: LoadResult) => number): string => {
        const ratios = own.map((result, round) => {
          const base = direct[round]
          return base === undefined ? NaN : of(result) / of(base)
        })
        return rangeText(summarise(ratios), 1, '')
      }
      rows.push([
        `${plan.kernel}, ${kind}`,
        name,
        summarise(own.map(({ perSecond }) => perSecond)).median.toFixed(0),
        ratio(({ perSecond }) => perSecond),
        rangeText(summarise(own.map(({ p99Ms }) => p99Ms)), 1, ''),
        ratio(({ p99Ms }) => p99Ms),
        name === 'userspace' ? rangeText(summarise(own.map(({ cpuUs }) => cpuUs)), 1, '') : '',
      ])
    }
  }
  process.stdout.write(`${markdownTable(rows)}\n`)
}

function tellForeign(cores: number): void {
  process.stdout.write(`\nOther work meanwhile: ${cores.toFixed(2)} cores.\n\n`)
}

async function outside(plan: Plan): Promise<void> {
  const { kernel } = plan
  if (kernel === 'host') return inside(plan)
  const missing = missingGuest(kernel)
  if (missing !== undefined) throw new Error(missing)
  const began = readForeign()
  const numbers = ['rounds', 'seconds', 'connections'] as const
  const options = numbers.flatMap((name) => [`--${name}`, String(plan[name])])
  const { status, stdout, stderr } = await runInGuest({
    tier: kernel,
    command: [process.execPath, import.meta.filename, kernel, ...options],
    environment: { [INSIDE]: '1' },
    timeoutMs: GUEST_TIMEOUT_MS,
  })
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  tellForeign(foreignCores(began, readForeign()))
  if (status !== 0) throw new Error(`${kernel}: ended with ${status}`)
}

// Fails at once, and says why, where it is not installed.
execFileSync('sh', ['-c', 'command -v wrk'], { stdio: ['ignore', 'ignore', 'inherit'] })
for (const plan of readPlans()) {
  await (process.env[INSIDE] === '1' ? inside(plan) : outside(plan))
}
