/** How the nftables driver shares connections out over replicas, counted in the kernel. */
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { at } from '../../base/assert.ts'
import { TestBackend, ask, virtualServer } from '../conformance-peers.ts'
import { affinityTable, clientSlot } from '../affinity.ts'
import { netnsPlace } from '../testing/netns-sockets.ts'
import type { NftablesBalancer } from './balancer.ts'
import {
  VIP,
  flowsToVip,
  ghost,
  kernelTest,
  openDriver,
  sharedStage,
  virtualAddress,
} from './testing/kernel-scene.ts'

const stage = sharedStage()
const open = (where = stage()): Promise<NftablesBalancer> => openDriver(where)

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
  for (const { original, reply } of await flowsToVip(stage())) {
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
  const ofOne = await flowsToVip(stage(), { replySource: address })
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
  const flows = await flowsToVip(stage())
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
