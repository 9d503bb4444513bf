/**
 * The nftables driver against this machine's kernel, in namespaces of the tests' own: the port's
 * conformance suite, and what only a kernel driver promises. Needs root and the built addon.
 */
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import test from 'ava'
import { at } from '../../base/assert.ts'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import type { Random } from '../../base/random.ts'
import {
  TestBackend,
  TestClient,
  ask,
  census,
  datagramClient,
  freePort,
  pause,
  udpBackend,
  virtualServer,
} from '../conformance-peers.ts'
import { affinityTable, clientSlot } from '../affinity.ts'
import { testLoadBalancer } from '../conformance.ts'
import { decodeConnection, dumpConnections } from '../netlink/conntrack.ts'
import type { Connection } from '../netlink/conntrack.ts'
import { loadNative } from '../netlink/native.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { missing } from '../netlink/testing/sandbox.ts'
import type { Backend, VirtualServer } from '../ports.ts'
import { NODE_ADDRESS, NODE_ADDRESS_6, makeKernelStage } from '../testing/kernel-stage.ts'
import { TimeSlices } from '../time-slices.ts'
import type { KernelStage } from '../testing/kernel-stage.ts'
import { netnsPlace, rawSocket } from '../testing/netns-sockets.ts'
import { IPPROTO_SCTP, askBySctp, serveSctp } from '../testing/sctp.ts'
import { NftablesBalancer } from './balancer.ts'
import { KernelTable } from './kernel-table.ts'
import type { ReadPlacement } from './kernel-table.ts'
import { DRAINING_SLOTS, compileServer, targetText } from './placement.ts'
import type { Placement } from './placement.ts'

const TABLE = 'skein_12345678_lb'
const VIP = '10.96.0.10'

const load = loadNative()
const stages: KernelStage[] = []
const stage = (): KernelStage => at(stages, 0)

function open({ netns } = stage()): Promise<NftablesBalancer> {
  if (load.type === 'absent') throw new Error(load.reason)
  return NftablesBalancer.open(
    { native: load.native, clock: systemClock, log: silentLogger },
    { table: TABLE, netns },
  )
}

if (missing === '' && load.type === 'loaded') {
  const { native } = load
  test.before(async () => {
    stages.push(await makeKernelStage(native, 2))
  })
  test.after.always(() => stages[0]?.remove())
  testLoadBalancer(test, () => open(), { driver: 'kernel', stage })
  testLoadBalancer(test, () => open(), {
    driver: 'kernel',
    stage: () => stage().ipv6,
    suffix: ', in IPv6',
  })
} else {
  test.skip(`the nftables driver (${missing})`, (t) => t.pass())
}
const kernelTest = missing === '' ? test.serial : test.serial.skip

/** A backend that needs not be there: its flows can be counted all the same. */
function ghost(index: number, weight = 1): Backend {
  const address = `10.32.${index % 2}.${20 + index}`
  return { taskId: `task${index}`, nodeId: 'here', local: true, address, port: 0, weight }
}

function virtualAddress(backends: readonly Backend[], scheduler?: 'mh'): VirtualServer {
  const affinity = scheduler === undefined ? {} : { scheduler }
  return { id: 'service/net', protocol: 'any', address: VIP, port: 0, ...affinity, backends }
}

/** The connections that the node tracks to the virtual address, of one backend or of all. */
async function flowsToVip(from: { readonly replySource?: string } = {}): Promise<Connection[]> {
  if (load.type === 'absent') throw new Error(load.reason)
  const where = { protocol: 'netfilter', netns: stage().netns } as const
  await using socket = await NetlinkSocket.open(load.native, where)
  const messages = await socket.dump(dumpConnections({ family: 'ipv4', ...from }))
  return messages.map(decodeConnection).filter(({ original }) => original.destination === VIP)
}

/** Sends one datagram to each port of the virtual address; how many each backend was given. */
async function picks(ports: { readonly first: number; readonly count: number }): Promise<number[]> {
  const socket = createSocket('udp4')
  await stage().clients.bind(socket)
  const end = ports.first + ports.count
  for (let port = ports.first; port < end; port += 1) {
    await new Promise((resolve) => {
      socket.send('x', port, VIP, resolve)
    })
  }
  socket.close()
  const counts = new Map<string, number>()
  for (const { original, reply } of await flowsToVip()) {
    if (original.destinationPort < ports.first || original.destinationPort >= end) continue
    counts.set(reply.source, (counts.get(reply.source) ?? 0) + 1)
  }
  return [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, count]) => count)
}

kernelTest('10,000 picks are spread evenly over five replicas', async (t) => {
  const balancer = await open()
  t.teardown(() => balancer.close())
  await balancer.apply([virtualAddress([0, 1, 2, 3, 4].map((index) => ghost(index)))])
  const counts = await picks({ first: 1_000, count: 10_000 })
  t.log(counts.join(' '))
  t.is(counts.length, 5)
  const expected = 2_000
  const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
  // Four degrees of freedom: exceeded once in 200,000 runs.
  t.true(chiSquare < 30, `${chiSquare}`)
  const { address } = ghost(0)
  const ofOne = await flowsToVip({ replySource: address })
  t.is(ofOne.length, at(counts, 0))
  t.true(ofOne.every(({ reply }) => reply.source === address))
})

kernelTest('weights of 7 and 3 share 10,000 picks 7:3, and weight 0 has none', async (t) => {
  const balancer = await open()
  t.teardown(() => balancer.close())
  await balancer.apply([virtualAddress([ghost(0, 7), ghost(2, 3), ghost(4, 0)])])
  const [seven = 0, three = 0, ...others] = await picks({ first: 12_000, count: 10_000 })
  t.log(seven, three)
  t.deepEqual(others, [])
  t.true(Math.abs(seven - 7_000) < 230, `${seven} of 10,000: five standard deviations are 230`)
  t.is(seven + three, 10_000)
})

kernelTest('a replica that drains keeps its connections but no flow of datagrams', async (t) => {
  const balancer = await open()
  t.teardown(() => balancer.close())
  const first = await TestBackend.start('p0', undefined, at(stage().backends, 0))
  const echo = await udpBackend('datagrams', at(stage().backends, 1))
  t.teardown(() => [first.stop(), echo.close()])
  const second = { ...echo.backend, port: 0, taskId: 'second' }
  const others = (weight: number): Backend[] => [{ ...first.backend(weight), port: 0 }, second]
  await balancer.apply([virtualAddress([{ ...first.backend(), port: 0 }])])
  const vip = { ...stage().clients, dialAddress: VIP }
  const connection = await TestClient.open(first.port, { from: vip })
  const flow = await datagramClient(echo.backend.port, vip)
  t.teardown(() => [connection.socket.destroy(), flow.close()])
  t.is(await connection.ask(), 'p0')
  flow.send('nobody listens to this at p0')
  const leadsTo = async (): Promise<string[]> =>
    (await flowsToVip())
      .filter(({ original }) => original.destinationPort === echo.backend.port)
      .map(({ reply }) => reply.source)
  await untilTrue(async () => (await leadsTo()).length === 1)
  t.deepEqual(await leadsTo(), [first.address])
  await balancer.apply([virtualAddress(others(0))])
  t.is(await flow.ask('1'), 'datagrams 1', 'the next datagram finds who serves')
  t.is(await connection.ask(), 'p0', 'the connection goes on')
})

async function untilTrue(condition: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 400; i += 1) {
    if (await condition()) return
    await pause(5)
  }
  throw new Error('timed out')
}

for (const family of ['ipv4', 'ipv6'] as const) {
  kernelTest(`SCTP is balanced, its ports and checksums with it (${family})`, async (t) => {
    const balancer = await open()
    t.teardown(() => balancer.close())
    const { backends, clients, listenAddress, neighbours } =
      family === 'ipv4' ? stage() : stage().ipv6
    const replicas = backends.map((place, index): Backend => {
      const socket = rawSocket(at(stage().taskNetns, index), place.address, IPPROTO_SCTP)
      t.teardown(() => socket.close())
      void serveSctp(socket, `s${index}`, 9_100)
      const { address } = place
      return { taskId: `s${index}`, nodeId: 'here', local: true, address, port: 9_100, weight: 1 }
    })
    const server = virtualServer(9_000, replicas, 'sctp', listenAddress)
    t.deepEqual(await balancer.apply([server]), [])
    const client = rawSocket(stage().clientNetns, clients.address, IPPROTO_SCTP)
    t.teardown(() => client.close())
    const seen = new Set<string>()
    for (let port = 20_000; port < 20_000 + neighbours.length; port += 1) {
      const to = { host: clients.dialAddress, port: 9_000 }
      const [first = '', second = ''] = await askBySctp(client, port, to)
      t.is(first, second, 'an association stays with its replica')
      seen.add(first)
    }
    t.deepEqual([...seen].toSorted(), [`s0 ${clients.address}`, `s1 ${clients.address}`])
    await balancer.apply([{ ...server, backends: replicas.slice(1) }])
    const [only] = await askBySctp(client, 21_000, { host: clients.dialAddress, port: 9_000 })
    t.is(only, `s1 ${clients.address}`)
  })
}

kernelTest('the kernel gives each client the replica that userspace gives it', async (t) => {
  const balancer = await open()
  t.teardown(() => balancer.close())
  const { ipv6 } = stage()
  for (const around of [stage(), ipv6]) {
    const peers = await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map((name, index) =>
        TestBackend.start(name, undefined, at(around.backends, index % 2)),
      ),
    )
    t.teardown(() => peers.forEach((peer) => peer.stop()))
    const names = peers.map(({ name }) => name)
    const table = affinityTable(names)
    const backends = peers.map((peer) => peer.backend())
    const server = virtualServer(8_090, backends, 'tcp', around.listenAddress)
    t.deepEqual(await balancer.apply([{ ...server, scheduler: 'mh' }]), [])
    for (const client of around.neighbours) {
      const expected = at(names, at(table, clientSlot(client.address, table.length)))
      t.is(await ask(8_090, client), expected, client.address)
    }
  }
})

/** Which backend each of many client addresses is given. */
async function choices(port: number): Promise<ReadonlyMap<string, string>> {
  for (let index = 0; index < CLIENT_ADDRESSES; index += 1) {
    const socket = createSocket('udp4')
    await netnsPlace(stage().clientNetns, `10.9.0.${100 + index}`).bind(socket)
    await new Promise((resolve) => {
      socket.send('x', port, VIP, resolve)
    })
    socket.close()
  }
  const flows = await flowsToVip()
  return new Map(
    flows
      .filter(({ original }) => original.destinationPort === port)
      .toSorted((a, b) => (a.original.source < b.original.source ? -1 : 1))
      .map(({ original, reply }) => [original.source, reply.source]),
  )
}

const CLIENT_ADDRESSES = 50

kernelTest('affinity gives a client one replica, whatever the order, and moves few', async (t) => {
  const addresses = Array.from({ length: CLIENT_ADDRESSES }, (_, i) => `10.9.0.${100 + i}`)
  const { clientNetns } = stage()
  const commands = addresses.map((address) => `ip addr add ${address}/24 dev eth0`).join(';')
  execFileSync('nsenter', [`--net=${clientNetns}`, 'sh', '-c', commands])
  const backends = [0, 1, 2, 3, 4, 5, 6, 7].map((index) => ghost(index))
  const balancer = await open()
  t.teardown(() => balancer.close())
  await balancer.apply([virtualAddress(backends, 'mh')])
  const first = await choices(30_001)
  t.is(first.size, CLIENT_ADDRESSES)
  t.true(new Set(first.values()).size > 4)
  t.deepEqual(await choices(30_002), first)
  await balancer.apply([])
  await balancer.apply([virtualAddress(backends.toReversed(), 'mh')])
  t.deepEqual(await choices(30_003), first)
  const gone = at(backends, 3).address
  await balancer.apply([virtualAddress(backends.toSpliced(3, 1), 'mh')])
  const after = await choices(30_004)
  const kept = [...first].filter(([, backend]) => backend !== gone)
  const moved = kept.filter(([client, backend]) => after.get(client) !== backend)
  t.log(`${moved.length} of ${kept.length} moved`)
  t.true(moved.length <= kept.length / 5)
  t.false([...after.values()].includes(gone))
})

kernelTest('a virtual address answers clients and the node itself, on every port', async (t) => {
  const balancer = await open()
  t.teardown(() => balancer.close())
  const peers = await Promise.all(
    stage().backends.map((place, index) => TestBackend.start(`p${index}`, undefined, place)),
  )
  t.teardown(() => peers.forEach((peer) => peer.stop()))
  const clients = { ...stage().clients, dialAddress: VIP }
  const node = { ...netnsPlace(stage().netns, NODE_ADDRESS), dialAddress: VIP }
  for (const peer of peers) {
    await balancer.apply([virtualAddress([{ ...peer.backend(), port: 0 }])])
    t.is(await ask(peer.port, clients), peer.name)
    t.is(await ask(peer.port, node), peer.name)
  }
  const published = serverAt(
    8_080,
    peers.map((peer) => peer.backend()),
  )
  await balancer.apply([published])
  const self = { ...node, dialAddress: NODE_ADDRESS }
  t.deepEqual([...(await census(8_080, 40, self)).keys()].toSorted(), ['p0', 'p1'])
  await t.throwsAsync(ask(8_080, { ...node, dialAddress: '127.0.0.1' }))
})

function serverAt(port: number, backends: readonly Backend[]): VirtualServer {
  return virtualServer(port, backends, 'tcp', '0.0.0.0')
}

kernelTest('what has no replica is refused at once, for clients and for the node', async (t) => {
  const balancer = await open()
  t.teardown(() => balancer.close())
  await balancer.apply([virtualAddress([]), serverAt(8_081, [])])
  const node = netnsPlace(stage().netns, NODE_ADDRESS)
  for (const from of [stage().clients, node]) {
    for (const dialAddress of [VIP, NODE_ADDRESS]) {
      const beganMs = performance.now()
      await t.throwsAsync(ask(8_081, { ...from, dialAddress }))
      const tookMs = performance.now() - beganMs
      t.log(`${from.address} → ${dialAddress}: ${tookMs.toFixed(1)} ms`)
      t.true(tookMs < 500)
    }
  }
})

for (const family of ['ipv4', 'ipv6'] as const) {
  kernelTest(`a flow of datagrams leaves a replica that drains or died (${family})`, async (t) => {
    const balancer = await open()
    t.teardown(() => balancer.close())
    const { backends, clients, listenAddress } = family === 'ipv4' ? stage() : stage().ipv6
    const peers = await Promise.all(backends.map((place, index) => udpBackend(`u${index}`, place)))
    t.teardown(() => peers.forEach((peer) => peer.close()))
    const port = await freePort()
    const apply = (alive: readonly Backend[]): Promise<unknown> =>
      balancer.apply([virtualServer(port, alive, 'udp', listenAddress)])
    const [a, b] = [at(peers, 0).backend, at(peers, 1).backend]
    await apply([a])
    const client = await datagramClient(port, clients)
    t.teardown(() => client.close())
    t.is(await client.ask('1'), 'u0 1')
    await apply([{ ...a, weight: 0 }])
    t.is(await client.ask('2'), 'u0 2', 'there is no other')
    await apply([{ ...a, weight: 0 }, b])
    t.is(await client.ask('3'), 'u1 3')
    await apply([a])
    t.is(await client.ask('4'), 'u0 4')
  })
}

kernelTest(
  'a new driver takes the table over; open connections live, dropped ones end',
  async (t) => {
    const peers = await Promise.all(
      stage().backends.map((place, index) => TestBackend.start(`p${index}`, undefined, place)),
    )
    t.teardown(() => peers.forEach((peer) => peer.stop()))
    const [stays, leaves] = [at(peers, 0), at(peers, 1)]
    const wanted = [
      serverAt(8_082, [stays.backend(), leaves.backend(0)]),
      serverAt(8_083, [leaves.backend()]),
    ]
    const before = await open()
    await before.apply(wanted)
    const clients = [
      await TestClient.open(8_082, { from: stage().clients }),
      await TestClient.open(8_083, { from: stage().clients }),
    ]
    for (const client of clients) await client.ask()
    await before.apply([at(wanted, 0), serverAt(8_083, [leaves.backend(0), stays.backend()])])
    const table = stage().run(`nft -a list table ip ${TABLE}`)
    await before.close()
    const after = await open()
    t.teardown(() => after.close())
    t.is(await after.verify(), 0)
    t.is(stage().run(`nft -a list table ip ${TABLE}`), table)
    t.is(await at(clients, 0).ask(), 'p0')
    t.is(await at(clients, 1).ask(), 'p1')
    await after.apply([serverAt(8_082, [stays.backend()]), serverAt(8_083, [stays.backend()])])
    t.is(await at(clients, 0).ask(), 'p0')
    await t.throwsAsync(at(clients, 1).ask())
    t.is(await ask(8_083, stage().clients), 'p0')
    for (const client of clients) client.socket.destroy()
  },
)

kernelTest(
  'what others did to the table is repaired; their tables stay; remove leaves none',
  async (t) => {
    const { run } = stage()
    run('nft add table ip foreign; nft add chain ip foreign theirs')
    const balancer = await open()
    await balancer.apply([virtualAddress([ghost(0), ghost(1)]), serverAt(80, [ghost(2)])])
    t.is(await balancer.verify(), 0)
    run(`nft delete element ip ${TABLE} vip_slots '{ ${VIP} . 1 }'`)
    run(`nft add element ip ${TABLE} port_servers '{ tcp . 99 : goto port_spread_1 }'`)
    t.is(await balancer.verify(), 2)
    t.is(await balancer.verify(), 0)
    // Without its knowledge: the next change is refused, and the table is read again.
    run(`nft flush map ip ${TABLE} vip_slots`)
    await balancer.apply([virtualAddress([ghost(1)]), serverAt(80, [ghost(2)])])
    t.is(await balancer.verify(), 0)
    run(`nft flush chain ip ${TABLE} prerouting`)
    t.is(await balancer.verify(), 2)
    t.regex(run(`nft list chain ip ${TABLE} prerouting`), /jump balance/)
    run(`nft delete table ip ${TABLE}`)
    await balancer.apply([virtualAddress([ghost(0), ghost(1)]), serverAt(80, [ghost(3)])])
    t.is(await balancer.verify(), 0)
    t.regex(run(`nft list map ip ${TABLE} port_slots`), /tcp \. 80 \. 0 : 10\.32\.1\.23 \. 0/)
    await balancer.remove()
    await t.throwsAsync(balancer.apply([]), { code: 'SHUTTING_DOWN' })
    t.is(run('nft list tables').trim(), 'table ip foreign')
    run('nft delete table ip foreign')
  },
)

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

kernelTest('after each of 1,000 random wishes the kernel has what a model has', async (t) => {
  t.timeout(110_000)
  const seed = Number(process.env['SKEIN_SEED'] ?? 20_261_121)
  t.log(`seed ${seed} (SKEIN_SEED)`)
  const random = seededRandom(seed)
  if (load.type === 'absent') throw new Error(load.reason)
  // Of its own: other tests leave connections behind, which each step would read.
  const own = await makeKernelStage(load.native, 0)
  t.teardown(() => own.remove())
  const { netns } = own
  const balancer = await open(own)
  t.teardown(() => balancer.close())
  await using socket = await NetlinkSocket.open(load.native, { protocol: 'netfilter', netns })
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
