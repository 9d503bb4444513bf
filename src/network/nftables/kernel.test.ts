/**
 * The nftables driver against this machine's kernel, in namespaces of the tests' own: the port's
 * conformance suite, and what only a kernel driver promises. Needs root and the built addon.
 */
import { performance } from 'node:perf_hooks'
import test from 'ava'
import { at } from '../../base/assert.ts'
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
import { testLoadBalancer } from '../conformance.ts'
import { missing } from '../netlink/testing/sandbox.ts'
import type { Backend } from '../ports.ts'
import { NODE_ADDRESS } from '../testing/kernel-stage.ts'
import { netnsPlace, rawSocket } from '../testing/netns-sockets.ts'
import { IPPROTO_SCTP, askBySctp, serveSctp } from '../testing/sctp.ts'
import type { NftablesBalancer } from './balancer.ts'
import {
  TABLE,
  VIP,
  flowsToVip,
  ghost,
  kernelTest,
  openDriver,
  serverAt,
  sharedStage,
  virtualAddress,
} from './testing/kernel-scene.ts'

const stage = sharedStage()
const open = (where = stage()): Promise<NftablesBalancer> => openDriver(where)

if (missing === '') {
  testLoadBalancer(test, () => open(), { driver: 'kernel', stage })
  testLoadBalancer(test, () => open(), {
    driver: 'kernel',
    stage: () => stage().ipv6,
    suffix: ', in IPv6',
  })
}

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
    (await flowsToVip(stage()))
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
