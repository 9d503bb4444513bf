/** The resolver on real sockets: tasks are addresses of loopback, upstream is a server of its own. */
import { createSocket } from 'node:dgram'
import type { Socket as DatagramSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { decode, encode } from 'dns-packet'
import type { Answer, DecodedPacket, RecordType } from 'dns-packet'
import * as fc from 'fast-check'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import type { Service } from '../../store/objects.ts'
import { Store } from '../../store/store.ts'
import { nodeDraft, serviceDraft, serviceSpec, taskDraft } from '../../store/testing/fixtures.ts'
import { writeTo } from '../../store/testing/fixtures.ts'
import type { Action, Draft } from '../../store/transaction.ts'
import { DnsService, LISTEN_RETRY_MS } from './dns-service.ts'
import { Names } from './names.ts'
import { parseServers } from './resolv-conf.ts'
import { addressBytes } from '../netlink/address.ts'
import { ipv6Of } from '../../store/ipv6.ts'
import { TimeSlices } from '../time-slices.ts'
import { Resolver } from './resolver.ts'
import type { ResolverComponents } from './resolver.ts'
import { frameOf, messagesIn } from './stream-frames.ts'
import { Upstream } from './upstream.ts'

const LISTEN_ATTEMPTS = 20
const FRONT = '127.0.0.11'
const BOTH = '127.0.0.12'
const BACK = '127.0.0.13'
const ALONE = '127.0.0.14'
const PICKY = '127.0.0.15'

/** Two networks, the first with IPv6, three services, tasks at addresses of loopback. */
function scene(): Store {
  const store = new Store()
  const networks = ['front', 'back'].map((id) => ({
    id,
    spec: { Name: id, Internal: id === 'back', EnableIPv6: id === 'front' },
    subnet: '10.96.0.0/24',
  }))
  const service = (id: string, on: readonly string[], mode?: 'dnsrr'): Draft<Service> => ({
    ...serviceDraft(id, serviceSpec(id)),
    endpoint: {
      ports: [],
      allocatedFor: 0,
      networks: on.map((networkId) => ({ networkId, aliases: id === 'web' ? ['shop'] : [] })),
      virtualAddresses:
        mode === 'dnsrr'
          ? []
          : on.map((networkId) => ({ networkId, address: `10.96.0.${id.length}` })),
    },
  })
  const task = (id: string, serviceId: string, address: string, on: readonly string[]): Action => ({
    type: 'create',
    table: 'tasks',
    object: taskDraft(id, {
      serviceId,
      serviceName: serviceId,
      nodeId: 'here',
      address,
      networks: on.map((networkId) => ({ networkId, aliases: [] })),
    }),
  })
  const actions: Action[] = [
    { type: 'create', table: 'nodes', object: nodeDraft('here') },
    ...networks.map((object): Action => ({ type: 'create', table: 'networks', object })),
    { type: 'create', table: 'services', object: service('web', ['front']) },
    { type: 'create', table: 'services', object: service('gate', ['front', 'back'], 'dnsrr') },
    { type: 'create', table: 'services', object: service('store', ['back']) },
    { type: 'create', table: 'services', object: service('alone', []) },
    task('web-task-0001', 'web', FRONT, ['front']),
    task('gate-task-001', 'gate', BOTH, ['front', 'back']),
    task('store-task-01', 'store', BACK, ['back']),
    task('alone-task-01', 'alone', ALONE, []),
  ]
  writeTo(store, ...actions)
  return store
}

interface Fixture {
  readonly store: Store
  readonly port: number
  readonly servers: string[]
}

async function start(t: ExecutionContext, options: { virtual?: boolean } = {}): Promise<Fixture> {
  const store = scene()
  const servers: string[] = []
  const random = seededRandom(7)
  const { virtual = true } = options
  const components = {
    clock: systemClock,
    random,
    log: silentLogger,
    names: async () => {
      const sources = { store, slices: new TimeSlices(systemClock) }
      const place = { nodeId: 'here', hasVirtualAddresses: virtual, routed: true }
      const names = new Names(sources, place)
      await names.refresh()
      return names
    },
    upstream: new Upstream({ clock: systemClock, random, servers: () => Promise.resolve(servers) }),
    ipv6Of: (address: string) => ipv6Of('fd00::', address),
  }
  const resolver = await listen(components)
  t.teardown(() => resolver.close())
  return { store, port: resolver.port, servers }
}

/** The kernel gives a port that is free for datagrams; connections of others may have it. */
async function listen(components: ResolverComponents): Promise<Resolver> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await Resolver.listen(components, { address: '127.0.0.1', port: 0 })
    } catch (error) {
      if (attempt === LISTEN_ATTEMPTS) throw error
    }
  }
}

/** Asks by datagram from an address. */
async function ask(
  { port }: Pick<Fixture, 'port'>,
  from: string,
  question: { readonly name: string; readonly type?: RecordType },
): Promise<DecodedPacket> {
  const { name, type = 'A' } = question
  const socket = createSocket('udp4')
  socket.bind({ address: from })
  await once(socket, 'listening')
  socket.send(encode({ type: 'query', id: 9, flags: 0x100, questions: [{ name, type }] }), port)
  const [bytes] = (await once(socket, 'message')) as [Buffer]
  socket.close()
  return decode(bytes)
}

function data(packet: DecodedPacket): unknown[] {
  return (packet.answers ?? []).map((one) => ('data' in one ? one.data : undefined))
}

function rcode(packet: DecodedPacket): string {
  return (packet as { readonly rcode?: string }).rcode ?? ''
}

test('a container learns the names of its networks and of no others', async (t) => {
  const fixture = await start(t)
  const addresses = async (from: string, name: string): Promise<unknown[]> =>
    data(await ask(fixture, from, { name }))
  t.deepEqual(await addresses(FRONT, 'web'), ['10.96.0.3'])
  t.deepEqual(await addresses(FRONT, 'SHOP'), ['10.96.0.3'])
  t.deepEqual(await addresses(FRONT, 'web.front'), ['10.96.0.3'])
  t.deepEqual(await addresses(FRONT, 'tasks.web'), [FRONT])
  t.deepEqual(await addresses(FRONT, 'web.1.web-task-0001'), [FRONT])
  t.deepEqual(await addresses(FRONT, 'web-task-000'), [FRONT], 'its host name')
  t.deepEqual(await addresses(FRONT, 'gate'), [BOTH], 'dnsrr: its tasks')
  t.deepEqual(await addresses(BOTH, 'web'), ['10.96.0.3'])
  t.deepEqual(await addresses(BOTH, 'store'), ['10.96.0.5'])
  for (const [from, name] of [
    [FRONT, 'store'],
    [BACK, 'web'],
    [ALONE, 'web'],
    [FRONT, 'tasks.nothing'],
  ] as const) {
    t.is(rcode(await ask(fixture, from, { name })), 'NXDOMAIN', `${name} from ${from}`)
  }
  t.is(rcode(await ask(fixture, '127.0.0.99', { name: 'web' })), 'REFUSED')
})

test('a name that is known has addresses only, and addresses have names', async (t) => {
  const fixture = await start(t)
  const text = await ask(fixture, FRONT, { name: 'web', type: 'TXT' })
  t.is(rcode(text), 'NOERROR')
  t.deepEqual(data(text), [])
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'web', type: 'AAAA' })), ['fd00::a60:3'])
  const inBack = await ask(fixture, BACK, { name: 'store', type: 'AAAA' })
  t.deepEqual([rcode(inBack), data(inBack)], ['NOERROR', []], 'a network without IPv6')
  const digits = Buffer.from(addressBytes('fd00::a60:3')).toString('hex').split('')
  const six = `${digits.toReversed().join('.')}.ip6.arpa`
  t.deepEqual(data(await ask(fixture, FRONT, { name: six, type: 'PTR' })), ['web.front'])
  const reverse = (address: string): string =>
    `${address.split('.').toReversed().join('.')}.in-addr.arpa`
  const pointer = await ask(fixture, FRONT, { name: reverse(FRONT), type: 'PTR' })
  t.deepEqual(data(pointer), ['web.1.web-task-0001.front'])
})

test('where the node has no virtual addresses, services mean their tasks', async (t) => {
  const fixture = await start(t, { virtual: false })
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'web' })), [FRONT])
})

test('a task that stops is found no more, from the next question on', async (t) => {
  const fixture = await start(t)
  const { store } = fixture
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'tasks.web' })), [FRONT])
  const action = { type: 'desireTask', id: 'web-task-0001', desiredState: 'shutdown' } as const
  writeTo(store, action)
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'tasks.web' })), [])
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'web' })), ['10.96.0.3'], 'the service stays')
})

test('a task that turns unhealthy is found no more', async (t) => {
  const fixture = await start(t)
  const { store } = fixture
  const task = store.get('tasks', 'web-task-0001')
  if (task === undefined) throw new Error('no task')
  const status = { ...task.status, health: 'unhealthy' } as const
  const action = { type: 'observeTask', id: task.id, nodeId: task.nodeId, status } as const
  writeTo(store, action)
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'tasks.web' })), [])
})

/** A server outside: answers every question with these records, and counts. */
async function outside(
  t: ExecutionContext,
  records: (name: string) => Answer[],
): Promise<{ readonly address: string; asked: number; close(): void }> {
  const streams = createServer((socket) => {
    socket.on('error', () => {})
    socket.on(
      'data',
      messagesIn((bytes) => socket.write(frameOf(encode(answerOf(decode(bytes)))))),
    )
  })
  streams.listen(0, '127.0.0.1')
  await once(streams, 'listening')
  const { port } = streams.address() as { port: number }
  const datagrams = createSocket('udp4')
  datagrams.bind({ address: '127.0.0.1', port })
  await once(datagrams, 'listening')
  const server = {
    address: `127.0.0.1#${port}`,
    asked: 0,
    close: () => closeBoth(datagrams, streams),
  }
  const answerOf = (query: DecodedPacket): Parameters<typeof encode>[0] => ({
    type: 'response',
    id: query.id ?? 0,
    flags: 0x8180,
    questions: query.questions ?? [],
    answers: records(query.questions?.[0]?.name ?? ''),
  })
  datagrams.on('message', (bytes, from) => {
    server.asked += 1
    const answer = answerOf(decode(bytes))
    const message = encode(answer)
    const cut = encode({ ...answer, flags: 0x8380, answers: [] })
    datagrams.send(message.length > 1_232 ? cut : message, from.port, from.address)
  })
  t.teardown(() => closeBoth(datagrams, streams))
  return server
}

function closeBoth(datagrams: DatagramSocket, streams: { close(): unknown }): void {
  try {
    datagrams.close()
  } catch {
    // Closed before.
  }
  streams.close()
}

test('other names come from outside, are remembered, and last when outside is gone', async (t) => {
  const fixture = await start(t)
  const server = await outside(t, (name) => [{ type: 'A', name, ttl: 1, data: '192.0.2.1' }])
  fixture.servers.push(server.address)
  const name = 'example.org'
  t.deepEqual(data(await ask(fixture, FRONT, { name })), ['192.0.2.1'])
  t.deepEqual(data(await ask(fixture, ALONE, { name })), ['192.0.2.1'])
  t.is(server.asked, 1, 'the second time it was remembered')
  t.is(rcode(await ask(fixture, BACK, { name })), 'NXDOMAIN', 'on an internal network alone')
  await new Promise((resolve) => {
    setTimeout(resolve, 1_100)
  })
  server.close()
  t.deepEqual(data(await ask(fixture, FRONT, { name })), ['192.0.2.1'], 'out of date, but known')
  t.is(rcode(await ask(fixture, FRONT, { name: 'other.org' })), 'SERVFAIL')
})

test("a task's own servers are asked in place of the node's, and answer it alone", async (t) => {
  const fixture = await start(t)
  const answering = (address: string): ReturnType<typeof outside> =>
    outside(t, (name) => [{ type: 'A', name, ttl: 60, data: address }])
  const [host, own] = [await answering('192.0.2.1'), await answering('192.0.2.2')]
  fixture.servers.push(host.address)
  const spec = { ContainerSpec: { Image: 'web:1', DNSConfig: { Nameservers: [own.address] } } }
  const object = taskDraft('picky', { nodeId: 'here', address: PICKY, spec })
  writeTo(fixture.store, { type: 'create', table: 'tasks', object })
  const name = 'example.org'
  t.deepEqual(data(await ask(fixture, PICKY, { name })), ['192.0.2.2'])
  t.deepEqual(data(await ask(fixture, FRONT, { name })), ['192.0.2.1'])
  t.deepEqual(data(await ask(fixture, PICKY, { name })), ['192.0.2.2'], 'also from the cache')
  t.deepEqual([host.asked, own.asked], [1, 1])
})

test('a long answer is cut for datagrams and whole over a stream', async (t) => {
  const fixture = await start(t)
  const many = Array.from({ length: 200 }, (_, i) => `192.0.2.${i}`)
  const server = await outside(t, (name) =>
    many.map((address) => ({ type: 'A', name, ttl: 60, data: address })),
  )
  fixture.servers.push(server.address)
  const cut = await ask(fixture, FRONT, { name: 'many.org' })
  t.true(cut.flag_tc)
  t.true(data(cut).length < 30)
  const socket = connect({ port: fixture.port, host: '127.0.0.1', localAddress: FRONT })
  const answers: DecodedPacket[] = []
  socket.on(
    'data',
    messagesIn((bytes) => answers.push(decode(bytes))),
  )
  const questions = [{ name: 'many.org', type: 'A' as const }]
  socket.write(frameOf(encode({ type: 'query', id: 3, questions })))
  while (answers.length === 0) await once(socket, 'data')
  socket.destroy()
  t.deepEqual(answers.flatMap(data), many)
})

test('a server that is silent or lies is passed over', async (t) => {
  const fixture = await start(t)
  const liar = createSocket('udp4')
  liar.bind({ address: '127.0.0.1', port: 0 })
  await once(liar, 'listening')
  t.teardown(() => liar.close())
  liar.on('message', (bytes, from) => {
    const query = decode(bytes)
    const wrong = { ...query, type: 'response' as const, id: ((query.id ?? 0) + 1) % 65_536 }
    liar.send(encode({ ...wrong, additionals: [] }), from.port, from.address)
  })
  const server = await outside(t, (name) => [{ type: 'A', name, ttl: 1, data: '192.0.2.7' }])
  fixture.servers.push(`127.0.0.1#${liar.address().port}`, server.address)
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'example.org' })), ['192.0.2.7'])
})

test('whatever arrives, the resolver goes on', async (t) => {
  const fixture = await start(t)
  const socket = createSocket('udp4')
  socket.bind({ address: FRONT })
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  const valid = encode({ type: 'query', id: 1, questions: [{ name: 'web', type: 'A' }] })
  const junk = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 6 }).map((edits) => {
      const bytes = Uint8Array.from(valid)
      for (const [at, value] of edits) bytes[at] = value
      return bytes
    }),
  )
  for (const [i, bytes] of fc.sample(junk, { numRuns: 500, seed: 11 }).entries()) {
    socket.send(bytes, fixture.port)
    // Not more than the socket's buffer holds.
    if (i % 20 === 0) await ask(fixture, FRONT, { name: 'web' })
  }
  t.deepEqual(data(await ask(fixture, FRONT, { name: 'web' })), ['10.96.0.3'])
})

test('the service answers where it is told to, and tries again where it cannot', async (t) => {
  const store = scene()
  const blocker = createSocket('udp4')
  blocker.bind({ address: '127.0.0.1', port: 0 })
  await once(blocker, 'listening')
  const { port } = blocker.address()
  const due: (() => void)[] = []
  const clock = {
    ...systemClock,
    after(delayMs: number, callback: () => void) {
      if (delayMs !== LISTEN_RETRY_MS) return systemClock.after(delayMs, callback)
      due.push(callback)
      return { cancel: () => void due.splice(0) }
    },
  }
  const own = store.find('tasks', 'nodeId', 'here')
  const ownTasks = { tasks: () => own, onChange: () => () => {} }
  const random = seededRandom(1)
  const service = new DnsService(
    { store, ownTasks, clock, random, log: silentLogger },
    { nodeId: 'here', hasVirtualAddresses: true, routed: true, port },
  )
  t.teardown(() => service.close())
  await service.listen('127.0.0.1')
  t.is(service.address, undefined)
  blocker.close()
  await once(blocker, 'close')
  due.splice(0)[0]?.()
  await service.listen('127.0.0.1')
  t.is(service.address, '127.0.0.1')
  t.deepEqual(data(await ask({ port }, FRONT, { name: 'web' })), ['10.96.0.3'])
  const remove = { type: 'remove', table: 'services', id: 'web' } as const
  writeTo(store, remove)
  t.is(rcode(await ask({ port }, FRONT, { name: 'web' })), 'NXDOMAIN')
})

test('the host names its servers, those on loopback too', (t) => {
  const text = 'search a.b\nnameserver 127.0.0.53\n nameserver  ::1\n#nameserver 1.1.1.1\n'
  t.deepEqual(parseServers(text), ['127.0.0.53', '::1'])
})
