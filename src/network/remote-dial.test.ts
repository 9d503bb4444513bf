/** Connections and datagrams that reach tasks of other nodes over streams, on real sockets. */
import { Readable } from 'node:stream'
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import {
  LOOPBACK,
  TestBackend,
  TestClient,
  connectionPair,
  datagramClient,
  freePort,
  udpBackend,
  until,
  virtualServer,
} from './conformance-peers.ts'
import { DialServer, StreamDialer, decodeDialRequest } from './remote-dial.ts'
import { frameOf, unframed } from './userspace/datagram-frame.ts'
import { ServiceScene, port, running, ended, userspace } from './testing/service-scene.ts'

/** A far node with one task, and a dialer that reaches it. */
async function farNode(t: { teardown(fn: () => void): void }) {
  const scene = new ServiceScene()
  const peer = await TestBackend.start('far')
  scene.process(peer, 8080, 'there')
  const { store } = scene
  const server = new DialServer({ store, clock: systemClock }, { nodeId: 'there' })
  const serving: Promise<void>[] = []
  const dialer = new StreamDialer((_nodeId, request) => {
    const [near, far] = connectionPair()
    serving.push(server.serve(request, far))
    return Promise.resolve(near)
  })
  t.teardown(() => {
    server.close()
    peer.stop()
  })
  return { scene, peer, server, serving, dialer }
}

test('a published port reaches a task of another node over a stream', async (t) => {
  const { peer, serving, dialer } = await farNode(t)
  const balancer = userspace(dialer)
  t.teardown(() => balancer.close())
  const published = await freePort()
  const server = {
    id: 'web',
    protocol: 'tcp' as const,
    address: LOOPBACK,
    port: published,
    backends: [{ ...peer.backend(), nodeId: 'there', local: false }],
  }
  await balancer.apply([server])
  const client = await TestClient.open(published)
  for (let i = 0; i < 3; i += 1) t.is(await client.ask(), 'far')
  client.socket.end()
  await until('the end came back', () => client.ended)
  await until('both ends are closed', () => balancer.connections === 0 && peer.sockets.size === 0)
  await Promise.all(serving)
})

test('a node connects only to its own running tasks and published ports', async (t) => {
  const { scene, peer, dialer } = await farNode(t)
  const other = await TestBackend.start('private')
  t.teardown(() => other.stop())
  const { signal } = new AbortController()
  const dial = (taskId: string, dialled: number) =>
    dialer.dial({ ...peer.backend(), taskId, port: dialled }, { signal })
  scene.task('elsewhere', { nodeId: 'here' })
  await t.throwsAsync(dial('elsewhere', 80), { message: /is not on this node/ })
  await t.throwsAsync(dial('missing', 80), { message: /is not on this node/ })
  await t.throwsAsync(dial('far', other.port), { message: /does not publish port/ })
  await t.throwsAsync(dial('far', Number.NaN), { message: /does not publish port/ })
  scene.update('far', { desiredState: 'shutdown' })
  await t.throwsAsync(dial('far', peer.port), { message: /does not run/, code: 'UNAVAILABLE' })
  t.is(decodeDialRequest({ taskId: 1, port: 2 }), undefined)
  t.is(decodeDialRequest(null), undefined)
})

test('a task that refuses is told to the dialling node, so that it can try another', async (t) => {
  const { peer, dialer } = await farNode(t)
  peer.stop()
  const { signal } = new AbortController()
  await t.throwsAsync(dialer.dial(peer.backend(), { signal }), { message: /ECONNREFUSED/ })
})

test('the far node drops its connections to a task that ended', async (t) => {
  const { scene, peer, serving, dialer } = await farNode(t)
  const { signal } = new AbortController()
  const connection = await dialer.dial(peer.backend(), { signal })
  await until('it is connected', () => peer.sockets.size === 1)
  scene.update('far', { status: ended() })
  await Promise.all(serving)
  await until('the task side is closed', () => peer.sockets.size === 0)
  await t.throwsAsync(async () => {
    for await (const _ of connection.source);
  })
})

test('a draining node refuses new connections and lets present ones end', async (t) => {
  const { peer, server, serving, dialer } = await farNode(t)
  const { signal } = new AbortController()
  const connection = await dialer.dial(peer.backend(), { signal })
  await until('it is connected', () => peer.sockets.size === 1)
  const drained = server.drain(60_000)
  await t.throwsAsync(dialer.dial(peer.backend(), { signal }), { message: /this node stops/ })
  t.is(peer.sockets.size, 1)
  await connection.end()
  for (const socket of peer.sockets) socket.end()
  for await (const _ of connection.source);
  await Promise.all([drained, ...serving])
  t.is(peer.sockets.size, 0)
})

test('what does not end in time is dropped by a draining node', async (t) => {
  const { peer, server, serving, dialer } = await farNode(t)
  const { signal } = new AbortController()
  await dialer.dial(peer.backend(), { signal })
  await until('it is connected', () => peer.sockets.size === 1)
  await server.drain(20)
  await Promise.all(serving)
  await until('the task side is closed', () => peer.sockets.size === 0)
  t.pass()
})

test('datagrams reach a task of another node and its answers come back', async (t) => {
  const scene = new ServiceScene()
  const peer = await udpBackend('far')
  const ports = [port(8053, { protocol: 'udp' })]
  const status = running([{ targetPort: 80, hostPort: peer.backend.port }])
  scene.task('far', { nodeId: 'there', ports, status })
  const { store } = scene
  const server = new DialServer({ store, clock: systemClock }, { nodeId: 'there' })
  const serving: Promise<void>[] = []
  const dialer = new StreamDialer((_nodeId, request) => {
    const [near, far] = connectionPair()
    serving.push(server.serve(request, far))
    return Promise.resolve(near)
  })
  const balancer = userspace(dialer)
  t.teardown(async () => {
    await balancer.close()
    server.close()
    peer.close()
  })
  const published = await freePort()
  const backends = [{ ...peer.backend, nodeId: 'there', local: false }]
  t.deepEqual(await balancer.apply([virtualServer(published, backends, 'udp')]), [])
  const client = await datagramClient(published)
  t.teardown(() => client.close())
  for (const text of ['1', '2', 'x'.repeat(9_000)]) t.is(await client.ask(text), `far ${text}`)
  scene.update('far', { status: ended() })
  await Promise.all(serving)
  t.is(serving.length, 1)
})

test('datagrams that were cut and joined on the way are whole again', async (t) => {
  const datagrams = [0, 1, 255, 256, 65_535].map((length) => Buffer.alloc(length, length % 251))
  const bytes = Buffer.concat(datagrams.map((datagram) => frameOf(datagram)))
  for (const size of [1, 7, 1_000, bytes.length]) {
    const chunks: Buffer[] = []
    for (let i = 0; i < bytes.length; i += size) chunks.push(bytes.subarray(i, i + size))
    if (size === 1) chunks.splice(2_000)
    const found: number[] = []
    for await (const datagram of unframed(Readable.from(chunks))) found.push(datagram.length)
    t.deepEqual(found, size === 1 ? [0, 1, 255, 256] : [0, 1, 255, 256, 65_535])
  }
})
