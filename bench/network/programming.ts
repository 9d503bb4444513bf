/**
 * How fast IPVS is programmed: 1,000 services of 10 backends by the driver against `ipvsadm -R`, one
 * backend's change at that size, and how long the event loop waits meanwhile. All in one boot of a
 * throw-away kernel, in turns, so that the ratio does not depend on the machine.
 *
 * `node bench/network/programming.ts [uml|qemu]`
 */
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { IpvsBalancer } from '../../src/network/ipvs/ipvs-balancer.ts'
import { loadNative } from '../../src/network/netlink/native.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import type { BalancerFault } from '../../src/network/ports.ts'
import type { GuestTier } from '../../cluster-tests/guest/guest-run.ts'
import { missingGuest, runInGuest } from '../../cluster-tests/guest/run-in-guest.ts'
import { NO_MARKS, freshNamespace } from '../../cluster-tests/ipvs/case.ts'
import { markdownTable, rangeText, summarise } from '../statistics.ts'
import { DAEMON_OPTIONS } from './daemon-options.ts'
import { GUEST_TIMEOUT_MS } from './guest-time.ts'
import { BACKENDS, SERVICES, server, servers } from './large-table.ts'

const ROUNDS = 5
const CHANGES = 40
const TICK_MS = 2
const INSIDE = 'SKEIN_BENCH_INSIDE'

/** The same table for `ipvsadm -R`. */
function script(): string {
  const lines = servers().flatMap(({ address, backends }) => {
    const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number)
    const mark = a * 2 ** 24 + b * 2 ** 16 + c * 2 ** 8 + d
    const rest = backends.map((each) => `-a -f ${mark} -r ${each.address}:0 -m -w ${each.weight}`)
    return [`-A -f ${mark} -s wrr`, ...rest]
  })
  return `${lines.join('\n')}\n`
}

/** The longest that a timer waited beyond its time while `work` went on. */
async function lagDuring(work: () => Promise<unknown>): Promise<{ ms: number; lagMs: number }> {
  let lagMs = 0
  let lastMs = performance.now()
  const timer = setInterval(() => {
    const nowMs = performance.now()
    lagMs = Math.max(lagMs, nowMs - lastMs - TICK_MS)
    lastMs = nowMs
  }, TICK_MS)
  const beganMs = performance.now()
  await work()
  const ms = performance.now() - beganMs
  // The last stretch counts, too.
  await new Promise((resolve) => {
    setImmediate(resolve)
  })
  lagMs = Math.max(lagMs, performance.now() - lastMs - TICK_MS)
  clearInterval(timer)
  return { ms, lagMs }
}

function ipvsadm(): number {
  const netns = freshNamespace()
  const input = script()
  const beganMs = performance.now()
  execFileSync('nsenter', [`--net=${netns}`, 'ipvsadm', '-R'], { input })
  return performance.now() - beganMs
}

function open(native: Native, netns: string): Promise<IpvsBalancer> {
  const components = { native, clock: systemClock, log: silentLogger, marks: NO_MARKS }
  return IpvsBalancer.open(components, { netns })
}

async function applied(applying: Promise<readonly BalancerFault[]>): Promise<void> {
  const faults = await applying
  if (faults.length > 0) throw new Error(JSON.stringify(faults[0]))
}

async function inside(): Promise<void> {
  const load = loadNative()
  if (load.type === 'absent') throw new Error(load.reason)
  const rows = { driver: [] as number[], ipvsadm: [] as number[], change: [] as number[] }
  const lags = {
    all: [] as number[],
    change: [] as number[],
    check: [] as number[],
    nothing: [] as number[],
  }
  for (let round = 0; round <= ROUNDS; round += 1) {
    const netns = freshNamespace()
    const balancer = await open(load.native, netns)
    const wanted = servers()
    const all = await lagDuring(() => applied(balancer.apply(wanted)))
    const nothing = await lagDuring(() => sleep(all.ms))
    const foreign = ipvsadm()
    for (let change = 0; change < CHANGES; change += 1) {
      const set = [server(change * 17, 1 + (change % 3))]
      const one = await lagDuring(() => applied(balancer.change({ set, removed: [] })))
      if (round === 0) continue
      rows.change.push(one.ms)
      lags.change.push(one.lagMs)
    }
    const check = await lagDuring(() => balancer.check())
    await balancer.close()
    // The first round compiles.
    if (round === 0) continue
    rows.driver.push(all.ms)
    rows.ipvsadm.push(foreign)
    lags.all.push(all.lagMs)
    lags.check.push(check.lagMs)
    lags.nothing.push(nothing.lagMs)
  }
  report(rows, lags)
}

type Series = Readonly<Record<string, readonly number[]>>

function report(rows: Series, lags: Series): void {
  const { driver = [], ipvsadm: foreign = [], change = [] } = rows
  const row = (what: string, values: readonly number[], unit = 'ms'): string[] => [
    what,
    rangeText(summarise(values), 1, unit),
  ]
  const ratios = driver.map((ms, index) => ms / (foreign[index] ?? NaN))
  const table = [
    [`${SERVICES} services × ${BACKENDS} backends, ${ROUNDS} rounds`, 'median (min–max)'],
    row('all, by the driver', driver),
    row('all, by `ipvsadm -R`', foreign),
    row('driver × ipvsadm', ratios, ''),
    row('one backend changed', change),
    row('loop waits: all', lags['all'] ?? []),
    row('loop waits: one change', lags['change'] ?? []),
    row('loop waits: check of all', lags['check'] ?? []),
    row('loop waits: as long, nothing to do', lags['nothing'] ?? []),
  ]
  process.stdout.write(`${markdownTable(table)}\n`)
}

async function outside(tier: GuestTier): Promise<void> {
  const missing = missingGuest(tier)
  if (missing !== undefined) throw new Error(missing)
  const command = [process.execPath, ...DAEMON_OPTIONS, join(import.meta.dirname, 'programming.ts')]
  const { status, stdout, stderr } = await runInGuest({
    tier,
    command,
    environment: { [INSIDE]: '1' },
    timeoutMs: GUEST_TIMEOUT_MS,
  })
  process.stdout.write(stdout)
  process.stderr.write(stderr)
  process.exitCode = status
}

if (process.env[INSIDE] === '1') await inside()
else await outside(process.argv[2] === 'qemu' ? 'qemu' : 'uml')
