/**
 * How long the IPVS driver itself holds the event loop: its own work on this machine, with a kernel
 * that only acknowledges (`answering-kernel.ts`). The time that it waits for a kernel is left out;
 * `programming.ts` measures that in a guest, whose memory is slow.
 *
 * `node bench/network/held.ts`
 */
import { spawnSync } from 'node:child_process'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { IpvsBalancer } from '../../src/network/ipvs/ipvs-balancer.ts'
import { NO_MARKS } from '../../cluster-tests/ipvs/case.ts'
import { markdownTable, rangeText, summarise } from '../statistics.ts'
import { answeringKernel } from './answering-kernel.ts'
import { DAEMON_OPTIONS } from './daemon-options.ts'
import { HeldLoop } from './held-loop.ts'
import type { Held } from './held-loop.ts'
import { BACKENDS, SERVICES, server, servers } from './large-table.ts'

const INSIDE = 'SKEIN_BENCH_INSIDE'
const ROUNDS = 10
const CHANGES = 40

async function timed(work: () => Promise<unknown>): Promise<number> {
  const beganMs = performance.now()
  await work()
  return performance.now() - beganMs
}

async function inside(): Promise<void> {
  const parts = {
    native: answeringKernel(),
    clock: systemClock,
    log: silentLogger,
    marks: NO_MARKS,
  }
  const first: Held[] = []
  const all: Held[] = []
  const changes: Held[] = []
  for (let round = 0; round <= ROUNDS; round += 1) {
    const balancer = await IpvsBalancer.open(parts)
    const wanted = servers()
    // The first one compiles the code, too, as a daemon's start does.
    const held = await HeldLoop.during(() => timed(() => balancer.apply(wanted)))
    ;(round === 0 ? first : all).push(held)
    for (let change = 0; change < CHANGES; change += 1) {
      const set = [server(change * 17, 1 + (change % 3))]
      const work = (): Promise<number> => timed(() => balancer.change({ set, removed: [] }))
      changes.push(await HeldLoop.during(work))
    }
    await balancer.close()
  }
  const row = (what: string, held: readonly Held[]): string[] => {
    const text = (of: (one: Held) => number): string => rangeText(summarise(held.map(of)), 1, '')
    return [what, text(({ ms }) => ms), text(({ lagMs }) => lagMs), text(({ cpuMs }) => cpuMs)]
  }
  const heading = `IPVS driver alone, ${SERVICES} services × ${BACKENDS} backends`
  const table = [
    [heading, 'ms', 'loop waits, ms', 'held by us, ms'],
    row('all, the first time', first),
    row('all', all),
    row('one backend changed', changes),
  ]
  process.stdout.write(`${markdownTable(table)}\n`)
}

if (process.env[INSIDE] === '1') await inside()
else {
  const { status } = spawnSync(process.execPath, [...DAEMON_OPTIONS, import.meta.filename], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  })
  process.exitCode = status ?? 1
}
