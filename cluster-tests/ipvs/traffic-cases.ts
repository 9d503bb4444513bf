/** Real connections through marks and IPVS: from outside and from the node itself to replicas. */
import assert from 'node:assert/strict'
import { setTimeout } from 'node:timers/promises'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import { IpvsBalancer } from '../../src/network/ipvs/ipvs-balancer.ts'
import { LayeredBalancer } from '../../src/network/layered-balancer.ts'
import { UserspaceBalancer } from '../../src/network/userspace/balancer.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import type { Backend, VirtualServer } from '../../src/network/ports.ts'
import { within } from './case.ts'
import type { Case, CaseContext } from './case.ts'
import { marksIn } from './marks.ts'
import type { Peer } from './topology.ts'
import { CLIENT_ADDRESSES, NODE_ADDRESS, Topology, backend, bothFamilies, v6 } from './topology.ts'

const VIP = '10.96.0.2'
const PUBLISHED_PORT = 9_000
const OWN_NAMESPACE = '/proc/self/ns/net'

async function balancerOn(native: Native, netns: string): Promise<IpvsBalancer> {
  const marks = await marksIn(native, netns)
  const components = { native, clock: systemClock, log: silentLogger, marks }
  return IpvsBalancer.open(components, { netns })
}

function virtual(backends: readonly Backend[], more: Partial<VirtualServer> = {}): VirtualServer {
  const ofAnyPort = backends.map((each) => ({ ...each, port: 0 }))
  return { id: 's/net', protocol: 'any', address: VIP, port: 0, backends: ofAnyPort, ...more }
}

function published(
  backends: readonly Backend[],
  protocol: 'tcp' | 'udp' = 'tcp',
  more: Partial<VirtualServer> = {},
): VirtualServer {
  const id = `s/${protocol}`
  return { id, protocol, address: '0.0.0.0', port: PUBLISHED_PORT, backends, ...more }
}

/** All replicas are on the node. */
const USERSPACE = {
  clock: systemClock,
  random: systemRandom,
  log: silentLogger,
  dialer: { dial: () => Promise.reject(new Error('there is no other node')) },
}

const ALL = ['a', 'b', 'c'].map((name) => backend(name))

/** Answers to `count` requests, each on a connection of its own, in the order of their text. */
async function census(peer: Peer, host: string, port: number, count: number): Promise<string[]> {
  const answers: string[] = []
  for (let index = 0; index < count; index += 1) {
    answers.push(await peer.ask({ type: 'get', host, port }))
  }
  return answers.toSorted()
}

function times(count: number, texts: readonly string[]): string[] {
  return texts.flatMap((text) => Array<string>(count).fill(text)).toSorted()
}

/**
 * Two nodes that all cases use: laying one takes longer than most cases. The first is where this
 * process is, so the userspace balancer can be there, too.
 */
const nodes: Promise<Topology>[] = []

function nodeNumber(number: 0 | 1): Promise<Topology> {
  return (nodes[number] ??= Topology.start(number === 0 ? OWN_NAMESPACE : undefined))
}

/** Runs on a node without servers, and leaves it so. */
async function onNode(
  { native }: CaseContext,
  run: (node: Topology, balancer: IpvsBalancer) => Promise<void>,
): Promise<void> {
  const node = await nodeNumber(0)
  const balancer = await balancerOn(native, node.node)
  try {
    await run(node, balancer)
  } finally {
    await balancer.remove()
    await balancer.close()
  }
}

async function evenSpread(context: CaseContext): Promise<void> {
  await onNode(context, async (node, balancer) => {
    assert.deepEqual(await balancer.apply([virtual(ALL), published(ALL)]), [])
    const seen = times(4, ['a 10.1.0.2', 'b 10.1.0.2', 'c 10.1.0.2'])
    assert.deepEqual(await census(node.client, NODE_ADDRESS, PUBLISHED_PORT, 12), sourced(seen))
    assert.deepEqual(await census(node.client, VIP, 8_080, 12), sourced(seen))
    const own = times(4, ['a', 'b', 'c'])
    assert.deepEqual(names(await census(node.self, VIP, 8_080, 12)), own)
    assert.deepEqual(names(await census(node.self, NODE_ADDRESS, PUBLISHED_PORT, 12)), own)
    assert.equal(
      await node.client.ask({ type: 'get', host: VIP, port: 8_081 }),
      'error ECONNREFUSED',
    )
    await checkStatistics(node, balancer)
  })
}

/** The kernel sums up every two seconds; then the driver and ipvsadm must say the same. */
async function checkStatistics({ node }: Topology, balancer: IpvsBalancer): Promise<void> {
  const deadlineMs = performance.now() + 20_000
  let statistics = await balancer.statistics()
  while (!statistics.some(({ totals }) => totals.connections >= 24)) {
    assert.ok(performance.now() < deadlineMs, JSON.stringify(statistics))
    await setTimeout(200)
    statistics = await balancer.statistics()
  }
  const shown = within(node, 'ipvsadm -Ln --stats --exact')
  for (const { totals } of statistics) {
    const { connections, inPackets, outPackets, inBytes, outBytes } = totals
    const line = [connections, inPackets, outPackets, inBytes, outBytes].join(' +')
    assert.match(shown, new RegExp(` ${line}`), shown)
  }
}

/** The client has many addresses: the kernel takes the first for what it sends. */
function sourced(texts: readonly string[]): string[] {
  return texts.map((text) => text.replace('10.1.0.2', CLIENT_ADDRESSES[0] ?? ''))
}

function names(answers: readonly string[]): string[] {
  return answers.map((answer) => answer.charAt(0))
}

async function drain(context: CaseContext): Promise<void> {
  await onNode(context, async (node, balancer) => {
    const ask = (connection: string): Promise<string> =>
      node.client.ask({ type: 'get', host: NODE_ADDRESS, port: PUBLISHED_PORT, connection })
    await balancer.apply([published(ALL)])
    const first = names(await Promise.all(['1', '2', '3'].map(ask)))
    assert.deepEqual(first.toSorted(), ['a', 'b', 'c'])
    await balancer.apply([
      published(ALL.map((each) => (each.taskId === 'a' ? { ...each, weight: 0 } : each))),
    ])
    assert.deepEqual(names(await Promise.all(['1', '2', '3'].map(ask))), first)
    const fresh = names(await census(node.client, NODE_ADDRESS, PUBLISHED_PORT, 10))
    assert.deepEqual(fresh, times(5, ['b', 'c']))
    // Now it is deleted: its client is told at once, the others notice nothing.
    await balancer.apply([published(ALL.slice(1))])
    const after = await Promise.all(['1', '2', '3'].map(ask))
    for (const [index, answer] of after.entries()) {
      if (first[index] === 'a') assert.equal(answer, 'error ECONNRESET')
      else assert.equal(answer.charAt(0), first[index])
    }
  })
}

async function restartKeepsConnections({ native }: CaseContext): Promise<void> {
  const node = await nodeNumber(0)
  const ask = (): Promise<string> =>
    node.client.ask({ type: 'get', host: VIP, port: 8_080, connection: 'kept' })
  const first = await balancerOn(native, node.node)
  await first.apply([virtual(ALL)])
  const before = await ask()
  await first.close()
  assert.equal(await ask(), before)
  const second = await balancerOn(native, node.node)
  await second.apply([virtual(ALL)])
  assert.equal(await ask(), before)
  assert.equal((await census(node.client, VIP, 8_080, 3)).length, 3)
  await second.remove()
  await second.close()
  assert.equal(within(node.node, 'ipvsadm -Sn').trim(), '')
}

async function datagramsMove(context: CaseContext): Promise<void> {
  await onNode(context, async (node, balancer) => {
    const ask = (connection: string): Promise<string> =>
      node.client.ask({ type: 'datagram', host: NODE_ADDRESS, port: PUBLISHED_PORT, connection })
    await balancer.apply([published(ALL, 'udp')])
    const first = names(await Promise.all(['1', '2', '3'].map(ask)))
    assert.deepEqual(first.toSorted(), ['a', 'b', 'c'])
    assert.deepEqual(names(await Promise.all(['1', '2', '3'].map(ask))), first)
    // Draining: the flow moves, it would never end.
    const draining = ALL.map((each) => (each.taskId === 'a' ? { ...each, weight: 0 } : each))
    await balancer.apply([published(draining, 'udp')])
    const moved = await Promise.all(['1', '2', '3'].map((each) => persistently(() => ask(each))))
    for (const [index, answer] of moved.entries()) {
      if (first[index] === 'a') assert.match(answer, /^[bc] /)
      else assert.equal(answer.charAt(0), first[index])
    }
  })
}

/** A flow whose entry goes may lose a datagram; the next one must arrive. */
async function persistently(ask: () => Promise<string>): Promise<string> {
  const answer = await ask()
  return answer === 'silence' ? ask() : answer
}

async function affinity({ native, note }: CaseContext): Promise<void> {
  const [first, second] = [await nodeNumber(0), await nodeNumber(1)]
  const choices: string[][] = []
  for (const [node, order] of [
    [first, 'abc'],
    [second, 'cab'],
  ] as const) {
    const balancer = await balancerOn(native, node.node)
    const backends = order.split('').map((name) => backend(name))
    assert.deepEqual(await balancer.apply([published(backends, 'tcp', { scheduler: 'mh' })]), [])
    const answers: string[] = []
    for (const from of CLIENT_ADDRESSES) {
      answers.push(
        await node.client.ask({ type: 'get', host: NODE_ADDRESS, port: PUBLISHED_PORT, from }),
      )
    }
    const again = await node.client.ask({
      type: 'get',
      host: NODE_ADDRESS,
      port: PUBLISHED_PORT,
      from: CLIENT_ADDRESSES[0] ?? '',
    })
    assert.equal(again, answers[0])
    choices.push(answers)
    await balancer.remove()
    await balancer.close()
  }
  assert.deepEqual(choices[0], choices[1])
  const counts = ['a', 'b', 'c'].map(
    (name) => names(choices[0] ?? []).filter((each) => each === name).length,
  )
  assert.ok(
    counts.every((count) => count > 0),
    counts.join(' '),
  )
  note(`24 clients alike on both nodes: ${counts.join(', ')}`)
}

async function ipv6(context: CaseContext): Promise<void> {
  await onNode(context, async (node, balancer) => {
    const servers = [virtual(ALL), published(ALL)].flatMap(bothFamilies)
    assert.deepEqual(await balancer.apply(servers), [])
    const own = times(2, ['a', 'b', 'c'])
    assert.deepEqual(names(await census(node.client, v6(VIP), 8_080, 6)), own)
    assert.deepEqual(names(await census(node.client, v6(NODE_ADDRESS), PUBLISHED_PORT, 6)), own)
    const flows = await Promise.all(
      ['4', '5', '6'].map((connection) =>
        node.client.ask({ type: 'datagram', host: v6(VIP), port: 8_080, connection }),
      ),
    )
    assert.deepEqual(names(flows).toSorted(), ['a', 'b', 'c'])
  })
}

async function layers(context: CaseContext): Promise<void> {
  await onNode(context, async (node, kernel) => {
    const userspace = UserspaceBalancer.create(USERSPACE, { dialTimeoutMs: 500 })
    const layered = new LayeredBalancer({ kernel, userspace, log: silentLogger })
    const ask = (peer: Peer, host: string): Promise<string> =>
      peer.ask({ type: 'get', host, port: PUBLISHED_PORT })
    assert.deepEqual(await layered.apply([published(ALL), virtual([])]), [])
    // The kernel keeps the client's address, userspace shows the node's.
    assert.match(await ask(node.client, NODE_ADDRESS), /^[abc] 10\.1\.0\./)
    assert.match(await ask(node.self, '127.0.0.1'), /^[abc] 10\.32\.0\.1$/)
    // A virtual address without replicas refuses: the node's own sockets are not behind it.
    assert.equal(await ask(node.client, VIP), 'error ECONNREFUSED')
    const kept = (): Promise<string> =>
      node.client.ask({ type: 'get', host: NODE_ADDRESS, port: PUBLISHED_PORT, connection: 'u' })
    // What the kernel refuses keeps no mark: userspace has the port, and it is no fault.
    const broken = [...ALL, { ...backend('a'), taskId: 'x', address: '224.0.0.1' }]
    assert.deepEqual(await layered.apply([published(broken), virtual([])]), [])
    assert.match(await kept(), /^[abc] 10\.32\.0\.1$/)
    // The kernel takes new connections again, and leaves userspace the one that it has.
    assert.deepEqual(await layered.apply([published(ALL)]), [])
    assert.match(await ask(node.client, NODE_ADDRESS), /^[abc] 10\.1\.0\./)
    assert.match(await kept(), /^[abc] 10\.32\.0\.1$/)
    await layered.apply([])
    assert.equal(await ask(node.client, NODE_ADDRESS), 'error ECONNREFUSED')
    await userspace.close()
  })
}

/** The cases of this file. */
export const TRAFFIC_CASES: readonly Case[] = [
  {
    title: 'connections from outside and from the node are spread evenly, with their source',
    run: evenSpread,
  },
  { title: 'a draining replica keeps its connections, a deleted one resets them', run: drain },
  {
    title: 'a restart of the driver keeps connections, removal leaves nothing',
    run: restartKeepsConnections,
  },
  { title: 'flows of datagrams move away from a draining replica', run: datagramsMove },
  {
    title: 'with mh a client has the same replica on two nodes, in whatever order they were told',
    run: affinity,
  },
  { title: 'IPv6 has the same virtual addresses and ports', run: ipv6 },
  {
    title: 'userspace has loopback and what the kernel refuses, and keeps its connections',
    run: layers,
  },
]
