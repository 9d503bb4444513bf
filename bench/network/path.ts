/**
 * What a change costs from the store to the kernel: a replica of 1,000 services of 10 backends, the
 * reconcilers, the plane and the drivers as the daemon has them, in a network namespace; commits
 * come in, and each is timed until the kernel has it. Also how long the event loop is held: wall
 * time between two turns, and of it this thread's own processor time, which other work on the
 * machine cannot lengthen.
 *
 * `node bench/network/path.ts [host] [uml] [qemu] [--services 1000] [--changes 100]`
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingGuest, runInGuest } from '../../cluster-tests/guest/run-in-guest.ts'
import { markdownTable, rangeText, summarise } from '../statistics.ts'
import { GUEST_TIMEOUT_MS } from './guest-time.ts'
import { HeldLoop } from './held-loop.ts'
import type { Held } from './held-loop.ts'
import { PathScene } from './path-scene.ts'
import type { PathKernel } from './path-scene.ts'
import { DAEMON_OPTIONS } from './daemon-options.ts'

const INSIDE = 'SKEIN_BENCH_INSIDE'
/** Changes that compile the code and do not count. */
const WARM_UP = 60
/** A minute's comparison with the kernel, so many times. */
const CHECKS = 5

interface Plan {
  readonly kernels: readonly PathKernel[]
  readonly services: number
  readonly changes: number
}

function readPlan(): Plan {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      services: { type: 'string', default: '1000' },
      changes: { type: 'string', default: '100' },
    },
  })
  const kernels = positionals.length > 0 ? positionals : ['host']
  return {
    kernels: kernels.map(kernelOf),
    services: Number(values.services),
    changes: Number(values.changes),
  }
}

function kernelOf(name: string): PathKernel {
  if (name === 'host' || name === 'uml' || name === 'qemu') return name
  throw new Error(`kernel "${name}": host, uml or qemu`)
}

type Rows = Map<string, Held[]>

async function inside(kernel: PathKernel, plan: Plan): Promise<void> {
  const rows: Rows = new Map()
  const time = async (what: string, work: () => Promise<number>): Promise<void> => {
    const held = await HeldLoop.during(work)
    rows.set(what, [...(rows.get(what) ?? []), held])
  }
  for (let round = 0; round < 2; round += 1) {
    const scene = await PathScene.make(kernel, plan.services)
    // The first round compiles.
    if (round === 0) rows.clear()
    await time('everything, at the start', () => scene.start())
    if (round === 1) for (let n = 0; n < WARM_UP; n += 1) await scene.changeWeight(n)
    for (let n = 0; n < plan.changes; n += 1) {
      await time('one backend drains', () => scene.changeWeight(n))
      await time('one backend is replaced', () => scene.replaceBackend(n))
      await time('one service comes or goes', () => scene.toggleService())
      await time('a report that changes nothing', () => scene.report(n))
    }
    for (let n = 0; n < CHECKS; n += 1) await time('comparison of all', () => scene.check())
    await scene.close()
    if (round === 0) rows.clear()
  }
  report(kernel, plan, rows)
}

function report(kernel: PathKernel, plan: Plan, rows: Rows): void {
  const heading = `${kernel}, ${plan.services} services × 10 backends`
  const table = [[heading, 'ms', 'loop waits, ms', 'held by us, ms']]
  for (const [what, held] of rows) {
    const text = (of: (one: Held) => number): string => rangeText(summarise(held.map(of)), 1, '')
    table.push([what, text(({ ms }) => ms), text(({ lagMs }) => lagMs), text(({ cpuMs }) => cpuMs)])
  }
  process.stdout.write(`${markdownTable(table)}\n\n`)
}

async function outside(kernel: PathKernel, plan: Plan): Promise<void> {
  if (kernel === 'host') return inside(kernel, plan)
  const missing = missingGuest(kernel)
  if (missing !== undefined) throw new Error(missing)
  const program = join(import.meta.dirname, 'path.ts')
  const numbers = ['--services', String(plan.services), '--changes', String(plan.changes)]
  const { status, stdout, stderr } = await runInGuest({
    tier: kernel,
    command: [process.execPath, ...DAEMON_OPTIONS, program, kernel, ...numbers],
    environment: { [INSIDE]: '1' },
    timeoutMs: GUEST_TIMEOUT_MS,
  })
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  if (status !== 0) throw new Error(`${kernel}: ended with ${status}`)
}

const plan = readPlan()
for (const kernel of plan.kernels) {
  await (process.env[INSIDE] === '1' ? inside(kernel, plan) : outside(kernel, plan))
}
