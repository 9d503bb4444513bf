/** The userspace driver: the port's conformance suite, and what only this driver promises. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { performance } from 'node:perf_hooks'
import { duplexPair } from 'node:stream'
import type { Duplex } from 'node:stream'
import test from 'ava'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import {
  LOOPBACK,
  LOOPBACK_STAGE_6,
  TestBackend,
  TestClient,
  ask,
  census,
  connectionOf,
  freePort,
  pause,
  until,
  virtualServer,
} from '../conformance-peers.ts'
import { testLoadBalancer } from '../conformance.ts'
import type { Backend, RemoteDialer } from '../ports.ts'
import { BackendSet } from './backend-set.ts'
import { UserspaceBalancer } from './balancer.ts'
import type { UserspaceOptions } from './balancer.ts'
import { dialLocal } from './dial.ts'
import { USERSPACE_LIMITS, connectionsMaxFor, openFilesMax } from './limits.ts'
import { proxyHeader } from './proxy-protocol.ts'
import { relay, resetSocket } from './relay.ts'

const noRemotes: RemoteDialer = {
  dial: () => Promise.reject(new Error('no other nodes in this test')),
}

function make(options: UserspaceOptions = {}, dialer = noRemotes): UserspaceBalancer {
  const random = seededRandom(1)
  return UserspaceBalancer.create(
    { clock: systemClock, random, log: silentLogger, dialer },
    options,
  )
}

testLoadBalancer(test, () => Promise.resolve(make()))
testLoadBalancer(test, () => Promise.resolve(make()), {
  driver: 'sockets',
  stage: () => LOOPBACK_STAGE_6,
  suffix: ', in IPv6',
})

function backendNamed(taskId: string, weight = 1): Backend {
  return { taskId, nodeId: 'here', local: true, address: '10.0.0.1', port: 80, weight }
}

function newSet(scheduling: 'round-robin' | 'least-connections'): BackendSet {
  return new BackendSet(
    { clock: systemClock, random: seededRandom(7) },
    { scheduling, benchMs: 50 },
  )
}

const CLIENT = { remoteAddress: LOOPBACK }

function pickMany(set: BackendSet, count: number): string {
  return Array.from({ length: count }, () => set.pick(new Set(), CLIENT)?.backend.taskId).join('')
}

test('round robin follows the weights without bursts', (t) => {
  const set = newSet('round-robin')
  set.update({ backends: [backendNamed('a', 5), backendNamed('b', 1), backendNamed('c', 1)] })
  const picks = pickMany(set, 7)
  t.is(picks.split('').filter((name) => name === 'a').length, 5)
  t.false(picks.includes('aaa'))
})

test('least connections goes to the emptiest backend', (t) => {
  const set = newSet('least-connections')
  set.update({ backends: [backendNamed('a'), backendNamed('b')] })
  const busy = set.pick(new Set(), CLIENT)
  busy?.users.add(new AbortController())
  const other = busy?.backend.taskId === 'a' ? 'b' : 'a'
  t.is(pickMany(set, 3), other.repeat(3))
})

test('a benched backend is avoided while another can be had, and used when it is the last', (t) => {
  const set = newSet('round-robin')
  set.update({ backends: [backendNamed('a'), backendNamed('b')] })
  const benched = set.pick(new Set(), CLIENT)
  if (benched === undefined) return t.fail()
  set.bench(benched)
  const other = benched.backend.taskId === 'a' ? 'b' : 'a'
  t.is(pickMany(set, 3), other.repeat(3))
  set.update({ backends: [benched.backend] })
  t.is(pickMany(set, 2), benched.backend.taskId.repeat(2))
  return undefined
})

test('with affinity a client whose replica cannot be dialled has one other, and then its own', (t) => {
  const set = newSet('round-robin')
  const backends = ['a', 'b', 'c', 'd'].map((name) => backendNamed(name))
  set.update({ backends, scheduler: 'mh' })
  const own = set.pick(new Set(), CLIENT)
  if (own === undefined) return t.fail()
  const next = set.pick(new Set([own.key]), CLIENT)
  t.not(next?.key, own.key)
  set.bench(own)
  t.is(pickMany(set, 3), (next?.backend.taskId ?? '').repeat(3))
  set.update({
    backends: backends.filter(({ taskId }) => taskId !== own.backend.taskId),
    scheduler: 'mh',
  })
  const others = pickMany(set, 1)
  set.update({ backends: backends.toReversed(), scheduler: 'mh' })
  t.is(pickMany(set, 2), own.backend.taskId.repeat(2), 'as before, in whatever order')
  t.not(others, own.backend.taskId)
  return undefined
})

test('a replica that died is skipped before anybody drops it', async (t) => {
  const peers = await Promise.all(['a', 'b', 'c'].map((name) => TestBackend.start(name)))
  const balancer = make({ benchMs: 60_000 })
  t.teardown(async () => {
    await balancer.close()
    for (const peer of peers) peer.stop()
  })
  const port = await freePort()
  await balancer.apply([
    virtualServer(
      port,
      peers.map((peer) => peer.backend()),
    ),
  ])
  peers[1]?.stop()
  t.deepEqual([...(await census(port, 30)).keys()].toSorted(), ['a', 'c'])
})

test('a client is reset when every replica refuses, after a bounded number of tries', async (t) => {
  const dead = await Promise.all(Array.from({ length: 5 }, () => TestBackend.start('dead')))
  const balancer = make({ dialTriesMax: 3 })
  t.teardown(() => balancer.close())
  for (const peer of dead) peer.stop()
  const port = await freePort()
  const backends = dead.map((peer, i) => ({ ...peer.backend(), taskId: `dead${i}` }))
  await balancer.apply([virtualServer(port, backends)])
  const beganMs = performance.now()
  await t.throwsAsync(ask(port))
  t.true(performance.now() - beganMs < 1_000)
  t.is(balancer.connections, 0)
})

/** A relay between two in-memory streams; gives their outer ends. */
function relayed(flushMs: number): {
  readonly client: Duplex
  readonly backend: Duplex
  readonly drop: AbortController
  readonly done: Promise<void>
} {
  const drop = new AbortController()
  const [client, clientSide] = duplexPair({ highWaterMark: 1_024 })
  const [backend, backendSide] = duplexPair({ highWaterMark: 1_024 })
  client.on('error', () => {})
  clientSide.once('close', () => client.destroy())
  const options = { clock: systemClock, signal: drop.signal, flushMs }
  return { client, backend, drop, done: relay(clientSide, backendSide, options) }
}

test('an answer that the replica had finished is delivered although it is dropped', async (t) => {
  const { client, backend, drop, done } = relayed(10_000)
  backend.end(Buffer.alloc(1_500))
  await until('the client could read', () => client.readableLength > 0)
  await pause(20)
  drop.abort()
  let received = 0
  client.on('data', (chunk: Buffer) => {
    received += chunk.length
  })
  await done
  t.is(received, 1_500)
})

test('an answer that the replica had not finished is broken off when it is dropped', async (t) => {
  const { client, backend, drop, done } = relayed(10_000)
  backend.write(Buffer.alloc(100))
  await until('the client could read', () => client.readableLength > 0)
  drop.abort()
  await done
  t.true(client.destroyed)
})

test('a client that does not read the last answer of a dropped replica is cut off', async (t) => {
  const { client, backend, drop, done } = relayed(50)
  backend.end(Buffer.alloc(3_000))
  client.on('data', () => client.pause())
  await pause(20)
  drop.abort()
  await done
  t.true(client.destroyed)
})

test('over the limit of connections a new client is reset and the old ones stay', async (t) => {
  const peer = await TestBackend.start('a')
  const balancer = make({ connectionsMax: 2 })
  t.teardown(async () => {
    await balancer.close()
    peer.stop()
  })
  const port = await freePort()
  await balancer.apply([virtualServer(port, [peer.backend()])])
  const clients = [await TestClient.open(port), await TestClient.open(port)]
  for (const client of clients) t.is(await client.ask(), 'a')
  await t.throwsAsync(ask(port))
  for (const client of clients) t.is(await client.ask(), 'a')
  clients[0]?.socket.destroy()
  await until('a place is free', () => balancer.connections === 1)
  t.is(await ask(port), 'a')
})

test('a published port is never its own backend', async (t) => {
  const balancer = make()
  t.teardown(() => balancer.close())
  const port = await freePort()
  const self = { ...backendNamed('self'), address: LOOPBACK, port }
  const server = { ...virtualServer(port, [self]), address: '0.0.0.0' }
  const faults = await balancer.apply([server])
  t.is(faults.length, 1)
  t.regex(faults[0]?.message ?? '', /is a published port of this node/)
  await t.throwsAsync(ask(port))
})

test('a udp session that is idle too long is forgotten', async (t) => {
  const balancer = make({ udpIdleMs: 50 })
  t.teardown(() => balancer.close())
  const { createSocket } = await import('node:dgram')
  const peer = createSocket('udp4')
  const sources = new Set<number>()
  peer.on('message', (_text, from) => {
    sources.add(from.port)
    peer.send('ok', from.port, from.address)
  })
  peer.bind(0, LOOPBACK)
  await once(peer, 'listening')
  t.teardown(() => peer.close())
  const port = await freePort()
  const backends = [{ ...backendNamed('a'), address: LOOPBACK, port: peer.address().port }]
  await balancer.apply([virtualServer(port, backends, 'udp')])
  const client = createSocket('udp4')
  t.teardown(() => client.close())
  await until('a second session is used', () => {
    if (Math.floor(performance.now() / 5) % 40 === 0) client.send('x', port, LOOPBACK)
    return sources.size >= 2
  })
  t.pass()
})

/** Dials remote backends over an in-memory pair with a TCP connection to the backend behind it. */
const pairDialer: RemoteDialer = {
  async dial(target, { signal }) {
    const socket = await dialLocal(target, { clock: systemClock, timeoutMs: 1_000, signal })
    const [near, far] = duplexPair()
    far.on('error', () => socket.destroy()).on('close', () => socket.destroySoon())
    near.once('close', () => far.destroy())
    far.pipe(socket).pipe(far)
    return connectionOf(near)
  },
}

test('remote replicas share with local ones, and are dropped like them', async (t) => {
  const peers = await Promise.all(['near', 'far'].map((name) => TestBackend.start(name)))
  const balancer = make({}, pairDialer)
  t.teardown(async () => {
    await balancer.close()
    for (const peer of peers) peer.stop()
  })
  const port = await freePort()
  const backends = peers.map((peer) => ({ ...peer.backend(), local: peer.name === 'near' }))
  await balancer.apply([virtualServer(port, backends)])
  const answers = await census(port, 10)
  t.deepEqual([answers.get('near'), answers.get('far')], [5, 5])
  const clients = [await TestClient.open(port), await TestClient.open(port)]
  const names = await Promise.all(clients.map((client) => client.ask()))
  await balancer.apply([virtualServer(port, backends.slice(0, 1))])
  const far = clients[names.indexOf('far')]
  await until('the far connection is closed', () => far?.closed === true)
  t.deepEqual(await census(port, 4), new Map([['near', 4]]))
})

test('a socket closes whenever it is reset, also while its end is on the way', async (t) => {
  const listener = createServer({ allowHalfOpen: true }, (peer) => peer.on('error', () => {}))
  await once(listener.listen(0, LOOPBACK), 'listening')
  t.teardown(() => listener.close())
  const { port } = listener.address() as AddressInfo
  const dropped = async (prepare: (socket: Socket) => void): Promise<boolean> => {
    const socket = connect({ port, host: LOOPBACK, allowHalfOpen: true })
    await once(socket, 'connect')
    prepare(socket)
    resetSocket(socket)
    const closed = once(socket, 'close').then(() => true)
    return Promise.race([closed, pause(2_000).then(() => false)])
  }
  t.true(await dropped(() => {}))
  t.true(await dropped((socket) => socket.end()))
  t.true(await dropped((socket) => socket.end('last words')))
  t.true(await dropped((socket) => socket.write('words')))
})

test('proxied connections leave open files to the rest of the daemon', (t) => {
  const { connectionsMax } = USERSPACE_LIMITS
  t.is(connectionsMaxFor(1_048_576), connectionsMax)
  t.is(connectionsMaxFor(Infinity), connectionsMax)
  t.is(connectionsMaxFor(20_000), 8_976)
  t.is(connectionsMaxFor(1_024), 256)
})

test('the limit of open files is the process own', (t) => {
  const soft = execFileSync('sh', ['-c', 'ulimit -n'], { encoding: 'utf8' }).trim()
  t.is(openFilesMax(), soft === 'unlimited' ? Infinity : Number(soft))
})

/** Ends a connection and drops it in the same turn: its end is on the way. Then nothing is left. */
const ENDING_AND_RESET = `
  import { connect, createServer } from 'node:net'
  import { resetSocket } from '${new URL('relay.ts', import.meta.url).href}'
  const server = createServer((peer) => peer.on('error', () => {}).resume())
  server.listen(0, '127.0.0.1', () => {
    const socket = connect(server.address().port, '127.0.0.1', () => {
      socket.end('x')
      process.nextTick(() => resetSocket(socket))
    })
    socket.on('error', () => {}).once('close', () => server.close())
  })
`

test('a process that has reset a socket on its way to its end can end itself', (t) => {
  const words = ['--input-type=module', '--eval', ENDING_AND_RESET]
  t.notThrows(() => execFileSync(process.execPath, words, { timeout: 20_000, stdio: 'pipe' }))
})

test('with the PROXY protocol a replica is told who its client is, and then what it says', async (t) => {
  t.is(
    Buffer.from(
      proxyHeader({
        remoteAddress: '192.0.2.1',
        remotePort: 258,
        localAddress: '192.0.2.9',
        localPort: 80,
      }),
    ).toString('hex'),
    `${SIGNATURE}2111000cc0000201c000020901020050`,
  )
  const v6 = { remoteAddress: 'fe80::1%eth0', remotePort: 1, localAddress: 'fe80::2', localPort: 2 }
  t.regex(Buffer.from(proxyHeader(v6)).toString('hex'), new RegExp(`^${SIGNATURE}21210024fe80`))
  t.is(Buffer.from(proxyHeader({})).toString('hex'), `${SIGNATURE}20000000`)

  const heard = Promise.withResolvers<string>()
  const replica = await TestBackend.start('told', (socket) => {
    let bytes = Buffer.alloc(0)
    socket.on('data', (chunk: Buffer) => (bytes = Buffer.concat([bytes, chunk])))
    socket.on('end', () => heard.resolve(bytes.toString('hex')))
    socket.on('end', () => socket.end())
  })
  t.teardown(() => replica.stop())
  const balancer = make()
  t.teardown(() => balancer.close())
  const port = await freePort()
  t.deepEqual(
    await balancer.apply([{ ...virtualServer(port, [replica.backend()]), proxyProtocol: 'v2' }]),
    [],
  )
  const client = connect({ port, host: LOOPBACK })
  await once(client, 'connect')
  const { localPort = 0 } = client
  client.resume().end('hello')
  await once(client, 'close')
  const hex = (number: number): string => number.toString(16).padStart(4, '0')
  const ends = `7f0000017f000001${hex(localPort)}${hex(port)}`
  t.is(await heard.promise, `${SIGNATURE}2111000c${ends}${Buffer.from('hello').toString('hex')}`)
})

const SIGNATURE = '0d0a0d0a000d0a515549540a'
