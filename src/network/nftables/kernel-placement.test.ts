/** What the nftables driver leaves in the kernel, compared with a model, and how fast it does. */
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import { at } from '../../base/assert.ts'
import { systemClock } from '../../base/clock.ts'
import { seededRandom } from '../../base/random.ts'
import type { Random } from '../../base/random.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import type { Backend, VirtualServer } from '../ports.ts'
import { NODE_ADDRESS, NODE_ADDRESS_6, makeKernelStage } from '../testing/kernel-stage.ts'
import { TimeSlices } from '../time-slices.ts'
import type { NftablesBalancer } from './balancer.ts'
import { KernelTable } from './kernel-table.ts'
import type { ReadPlacement } from './kernel-table.ts'
import { DRAINING_SLOTS, compileServer, targetText } from './placement.ts'
import type { Placement } from './placement.ts'
import {
  TABLE,
  ghost,
  kernelTest,
  loadedNative,
  openDriver,
  sharedStage,
} from './testing/kernel-scene.ts'

const stage = sharedStage()
const open = (where = stage()): Promise<NftablesBalancer> => openDriver(where)

function manyServers(round: number): VirtualServer[] {
  return Array.from({ length: 1_000 }, (_, service) => ({
    id: `service${service}/net`,
    protocol: 'any',
    address: `10.96.${service >> 8}.${service & 255}`,
    port: 0,
    backends: Array.from({ length: 10 }, (__, index) => ({
      ...ghost(0),
      taskId: `${service}.${index}`,
      address: `10.32.${index}.${(service + round) % 250}`,
    })),
  }))
}

kernelTest('1,000 services of ten replicas are programmed and changed one by one', async (t) => {
  const balancer = await open()
  t.teardown(() => balancer.remove())
  for (let round = 0; round < 3; round += 1) {
    const wanted = manyServers(round)
    const lag = monitorEventLoopDelay({ resolution: 1 })
    await new Promise((resolve) => {
      setTimeout(resolve, 20)
    })
    lag.enable()
    const beganMs = performance.now()
    t.deepEqual(await balancer.apply(wanted), [])
    const allMs = performance.now() - beganMs
    lag.disable()
    const one = at(wanted, 500)
    const added = wanted.with(500, { ...one, backends: [...one.backends, ghost(1)] })
    const addMs = await timed(() => balancer.apply(added))
    const dropMs = await timed(() => balancer.apply(wanted))
    t.log(
      `${round === 0 ? 'new' : 'all changed'}: ${allMs.toFixed(0)} ms, lag ${(lag.max / 1e6).toFixed(1)} ms;` +
        ` one added ${addMs.toFixed(1)} ms, one dropped ${dropMs.toFixed(1)} ms`,
    )
    t.is(await balancer.verify(), 0)
  }
})

async function timed(work: () => Promise<unknown>): Promise<number> {
  const beganMs = performance.now()
  await work()
  return performance.now() - beganMs
}

/** Slots that a fair share-out has, made without the driver's arithmetic; undefined: left below. */
function modelOf(server: VirtualServer): string | undefined {
  const usable = server.backends.filter(({ local, routed }) => local || routed === true)
  const active = usable.filter(({ weight }) => weight > 0)
  const isVip = server.protocol === 'any'
  const others = server.backends.length - usable.length
  if (!isVip && usable.length === 0 && others > 0) return undefined
  if (!isVip && active.length === 0 && server.backends.some(({ weight }) => weight > 0)) {
    return undefined
  }
  const text = (backends: readonly Backend[]): string =>
    backends
      .map(({ address, port, weight }) => `${address}:${port}×${weight}`)
      .toSorted()
      .join(' ')
  const resting = usable.filter(({ weight }) => weight === 0)
  return `${active.length === 0 ? 'refuse' : 'pick'} ${text(active)} | ${text(resting)}`
}

/** The kernel's placement in the model's words: the slots of a backend as a part of all slots. */
function shownAs({ chain = 'none', slots }: Placement, weightSum: number): string {
  const counts = new Map<string, number>()
  const resting: string[] = []
  for (const [slot, target] of slots) {
    if (slot >= DRAINING_SLOTS) resting.push(`${targetText(target)}×0`)
    else counts.set(targetText(target), (counts.get(targetText(target)) ?? 0) + 1)
  }
  const size = [...counts.values()].reduce((sum, count) => sum + count, 0)
  const shares = [...counts].map(
    ([target, count]) => `${target}×${Math.round((count / size) * weightSum)}`,
  )
  const verb = chain === 'refuse' ? 'refuse' : chain.endsWith(`spread_${size}`) ? 'pick' : chain
  return `${verb} ${shares.toSorted().join(' ')} | ${resting.toSorted().join(' ')}`
}

function randomServers(random: Random): VirtualServer[] {
  const servers: VirtualServer[] = []
  for (let index = 0; index < 6; index += 1) {
    if (random.integer(4) === 0) continue
    const protocol = at(['tcp', 'udp', 'sctp', 'any'] as const, (index + random.integer(2)) % 4)
    const isVip = protocol === 'any'
    const isIpv6 = random.integer(2) === 0
    const own = isIpv6 ? ['::', NODE_ADDRESS_6] : ['0.0.0.0', NODE_ADDRESS]
    const virtual = isIpv6 ? `fd96::1:${index}` : `10.96.1.${index}`
    const address = isVip ? virtual : at(own, random.integer(2))
    const backends = Array.from({ length: 5 }, (_, task): Backend => {
      const { address: ipv4, ...other } = ghost(task)
      const place = isIpv6 ? `fd32:${1 + (task % 2)}::${20 + task}` : ipv4
      const given = { port: isVip ? 0 : 80, weight: random.integer(4) }
      return { ...other, ...given, address: place, local: random.integer(5) > 0 }
    }).filter(() => random.integer(3) > 0)
    servers.push({ id: `s${index}`, protocol, address, port: isVip ? 0 : 9_000 + index, backends })
  }
  return servers
}

/** Half a minute on a machine that does nothing else. */
const LONG_TEST_MS = 600_000

kernelTest('after each of 1,000 random wishes the kernel has what a model has', async (t) => {
  t.timeout(LONG_TEST_MS)
  const seed = Number(process.env['SKEIN_SEED'] ?? 20_261_121)
  t.log(`seed ${seed} (SKEIN_SEED)`)
  const random = seededRandom(seed)
  // Of its own: other tests leave connections behind, which each step would read.
  const own = await makeKernelStage(loadedNative(), 0)
  t.teardown(() => own.remove())
  const { netns } = own
  const balancer = await open(own)
  t.teardown(() => balancer.close())
  await using socket = await NetlinkSocket.open(loadedNative(), { protocol: 'netfilter', netns })
  const parts = { socket, slices: new TimeSlices(systemClock) }
  const tables = (['ipv4', 'ipv6'] as const).map(
    (family) => new KernelTable(parts, { table: TABLE, netns }, family),
  )
  for (let step = 0; step < 1_000; step += 1) {
    const wanted = randomServers(random)
    await balancer.apply(wanted)
    const kernel = new Map<string, ReadPlacement>()
    for (const table of tables) await table.readInto(kernel)
    const model: string[] = []
    const shown: string[] = []
    for (const server of wanted) {
      const text = modelOf(server)
      if (text === undefined) continue
      model.push(text)
      const weights = server.backends.filter((backend) => backend.local)
      const sum = weights.reduce((total, { weight }) => total + weight, 0)
      const { owner } = compileServer(server)
      const placement = kernel.get(owner)
      shown.push(placement === undefined ? `no ${owner}` : shownAs(placement, sum))
    }
    if (kernel.size !== model.length || shown.join('\n') !== model.join('\n')) {
      t.log(`step ${step}`)
      t.deepEqual(shown, model)
      t.is(kernel.size, model.length)
      return
    }
  }
  t.pass()
})
