/** The reconciler and the remote dial, on the real store and the real userspace driver. */
import { Readable } from 'node:stream'
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import { silentLogger } from '../base/log.ts'
import { seededRandom } from '../base/random.ts'
import { Store } from '../store/store.ts'
import {
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  transactionOf,
} from '../store/testing/fixtures.ts'
import type { AllocatedPort, Node, Task } from '../store/objects.ts'
import type { Action, Draft } from '../store/transaction.ts'
import {
  LOOPBACK,
  TestBackend,
  TestClient,
  ask,
  census,
  connectionPair,
  datagramClient,
  freePort,
  pause,
  udpBackend,
  until,
  virtualServer,
} from './conformance-peers.ts'
import { FAULT_RETRY_MS, NetworkReconciler } from './network.ts'
import type { Backend, BalancerFault, LoadBalancer, ServerChange, VirtualServer } from './ports.ts'
import { DialServer, StreamDialer, decodeDialRequest } from './remote-dial.ts'
import { changeTo, takeOver } from './server-change.ts'
import { UserspaceBalancer } from './userspace/balancer.ts'
import { frameOf, unframed } from './userspace/datagram-frame.ts'
import { wantedServers } from './wanted-servers.ts'
import type { LinkState } from './wanted-servers.ts'

const OPTIONS = { nodeId: 'here', listenAddress: LOOPBACK }

/** A store with a writer. */
class Scene {
  readonly store = new Store()

  write(...actions: Action[]): void {
    const index = this.store.index + 1
    const result = this.store.applyTransaction(transactionOf(`r${index}`, actions), index)
    if (!result.ok) throw new Error(result.message)
  }

  node(id: string, state: Node['status']['state'] = 'ready'): void {
    const object = nodeDraft(id, { status: { state, message: '' } })
    this.write({ type: 'create', table: 'nodes', object })
  }

  service(ports: readonly AllocatedPort[], id = 'web'): void {
    const object = { ...serviceDraft(id, serviceSpec(id)), endpoint: { ports, allocatedFor: 0 } }
    this.write({ type: 'create', table: 'services', object })
  }

  task(id: string, fields: Partial<Draft<Task>> = {}): void {
    const object = taskDraft(id, {
      serviceId: 'web',
      nodeId: 'here',
      address: '10.0.0.2',
      ports: [port(8080)],
      ...fields,
    })
    this.write({ type: 'create', table: 'tasks', object })
  }

  update(id: string, fields: Partial<Draft<Task>>): void {
    const { meta, ...task } = this.store.get('tasks', id) ?? fail(id)
    const object = { ...task, ...fields }
    this.write({ type: 'update', table: 'tasks', object, version: meta.version })
  }

  /** A running task that answers on loopback, as the process executor's do. */
  process(peer: TestBackend, publishedPort: number, nodeId = 'here'): void {
    this.task(peer.name, {
      nodeId,
      ports: [port(publishedPort)],
      status: running([{ targetPort: 80, hostPort: peer.port }]),
    })
  }
}

function fail(what: string): never {
  throw new Error(`${what}: is missing`)
}

function port(publishedPort: number, fields: Partial<AllocatedPort> = {}): AllocatedPort {
  return { protocol: 'tcp', targetPort: 80, publishedPort, publishMode: 'ingress', ...fields }
}

function running(ports?: Task['status']['ports']): Task['status'] {
  const status = {
    state: 'running',
    timestamp: '2026-01-01T00:00:00Z',
    message: 'started',
  } as const
  return ports === undefined ? status : { ...status, ports }
}

function ended(): Task['status'] {
  return { ...running(), state: 'shutdown', message: 'stopped' }
}

function backendsIn(scene: Scene): string[] {
  const [server] = wantedServers(scene, OPTIONS)
  return (server?.backends ?? []).map(
    (b) =>
      `${b.taskId}@${b.nodeId} ${b.local ? 'local' : 'remote'} ${b.address}:${b.port} w${b.weight}`,
  )
}

test('running replicas on nodes that are up are the backends of a published port', (t) => {
  const scene = new Scene()
  scene.node('here')
  scene.node('there')
  scene.node('gone', 'down')
  scene.service([port(8080)])
  scene.task('a')
  scene.task('b', { nodeId: 'there', address: '10.0.1.2' })
  scene.task('c', { nodeId: 'gone' })
  scene.task('d', { nodeId: 'unknown' })
  scene.task('e', { status: { ...running(), state: 'starting' } })
  scene.task('f', { status: ended() })
  scene.task('g', { desiredState: 'shutdown' })
  t.deepEqual(backendsIn(scene), [
    'a@here local 10.0.0.2:80 w4',
    'b@there remote 10.0.1.2:80 w4',
    'g@here local 10.0.0.2:80 w0',
  ])
  const [server] = wantedServers(scene, OPTIONS)
  t.like(server, { id: 'web/tcp/8080', protocol: 'tcp', address: LOOPBACK, port: 8080 })
})

test('a process answers on the loopback ports that its node reported, no others', (t) => {
  const scene = new Scene()
  scene.node('here')
  scene.service([port(8080)])
  scene.task('a', { status: running([{ targetPort: 80, hostPort: 40_001 }]) })
  scene.task('b', { status: running([{ targetPort: 81, hostPort: 40_002 }]) })
  t.deepEqual(backendsIn(scene), [`a@here local ${LOOPBACK}:40001 w4`])
})

test('a node that the leader believes down still serves its own replicas', (t) => {
  const scene = new Scene()
  scene.node('here', 'down')
  scene.service([port(8080)])
  scene.task('a')
  t.is(backendsIn(scene).length, 1)
})

test('of its own replicas a node believes itself, of others the store', (t) => {
  const scene = new Scene()
  scene.node('here')
  scene.node('there')
  scene.service([port(8080)])
  scene.task('unheard', { status: { ...running(), state: 'starting' } })
  scene.task('ended', { address: '10.0.0.3' })
  scene.task('stopping', { address: '10.0.0.4', desiredState: 'shutdown' })
  scene.task('gone', { address: '10.0.0.5' })
  scene.task('other', { nodeId: 'there', address: '10.0.1.2' })
  const told = (id: string): Task => scene.store.get('tasks', id) ?? fail(id)
  const own = [
    { ...told('unheard'), status: running() },
    { ...told('ended'), status: ended() },
    { ...told('stopping'), desiredState: 'running' as const },
    { ...told('ended'), id: 'successor', status: running() },
  ]
  const [server] = wantedServers({ store: scene.store, own }, OPTIONS)
  const backends = (server?.backends ?? []).map((backend) => `${backend.taskId} ${backend.weight}`)
  t.deepEqual(backends, ['other 4', 'unheard 4', 'stopping 0', 'successor 4'])
})

test('a replica that waits to be ready is no backend, an unhealthy one gets nothing new', (t) => {
  const scene = new Scene()
  scene.node('here')
  scene.node('there')
  scene.service([port(8080)])
  for (const nodeId of ['here', 'there']) {
    const task = (id: string, status: Partial<Task['status']>): void => {
      scene.task(`${id}-${nodeId}`, { nodeId, status: { ...running(), ...status } })
    }
    task('starting', { state: 'starting', health: 'starting' })
    task('well', { health: 'healthy' })
    task('ill', { health: 'unhealthy' })
  }
  t.deepEqual(
    backendsIn(scene).map((text) => [text.split('@')[0], text.split(' ').at(-1)].join(' ')),
    ['ill-here w0', 'ill-there w0', 'well-here w4', 'well-there w4'],
  )
})

test('a port in host mode has only replicas of this node', (t) => {
  const scene = new Scene()
  scene.node('here')
  scene.node('there')
  scene.service([port(8080, { publishMode: 'host' })])
  scene.task('a', { nodeId: 'there' })
  t.deepEqual(wantedServers(scene, OPTIONS), [])
  scene.task('b')
  t.deepEqual(backendsIn(scene), ['b@here local 10.0.0.2:80 w4'])
})

test('a port without replicas has a virtual server, a port not allocated has none', (t) => {
  const scene = new Scene()
  scene.service([port(0)])
  t.deepEqual(wantedServers(scene, OPTIONS), [])
  scene.service([port(8081, { protocol: 'udp' })], 'dns')
  t.deepEqual(
    wantedServers(scene, OPTIONS).map((server) => [server.id, server.backends.length]),
    [['dns/udp/8081', 0]],
  )
})

test('a dead link is lost and gets nothing new, a relayed one less, the last one is kept', (t) => {
  const scene = new Scene()
  for (const id of ['here', 'near', 'far', 'dead']) scene.node(id)
  scene.service([port(8080), port(8053, { protocol: 'udp' })])
  for (const nodeId of ['near', 'far', 'dead']) scene.task(nodeId, { nodeId })
  const states = new Map<string, LinkState>([
    ['near', 'direct'],
    ['far', 'relayed'],
    ['dead', 'none'],
  ])
  const linkTo = (id: string): LinkState => states.get(id) ?? 'none'
  const textOf = ({ taskId, weight, lost }: Backend): string =>
    `${taskId} ${weight}${lost === true ? ' lost' : ''}`
  const weights = (): string[] =>
    wantedServers({ store: scene.store, linkTo }, OPTIONS).map(({ protocol, backends }) =>
      [protocol, ...backends.map(textOf)].join(', '),
    )
  t.deepEqual(weights(), ['tcp, dead 0 lost, far 1, near 4', 'udp, far 1, near 4'])
  for (const id of states.keys()) states.set(id, 'none')
  t.deepEqual(weights(), ['tcp, dead 4, far 4, near 4', 'udp, dead 4, far 4, near 4'])
  states.set('near', 'direct')
  scene.task('drains', { nodeId: 'dead', desiredState: 'shutdown' })
  scene.task('drains-here', { nodeId: 'near', desiredState: 'shutdown' })
  const [tcp] = weights()
  t.is(tcp, 'tcp, dead 0 lost, drains 0 lost, drains-here 0, far 0 lost, near 4')
})

test('a virtual address has the replicas on its network, for every port', (t) => {
  const scene = new Scene()
  scene.node('here')
  const virtualAddresses = [{ networkId: 'net', address: '10.96.0.2' }]
  const endpoint = { ports: [], allocatedFor: 0, virtualAddresses }
  const labels = { 'skein.affinity': 'client-ip' }
  const object = { ...serviceDraft('web', { ...serviceSpec('web'), Labels: labels }), endpoint }
  scene.write({ type: 'create', table: 'services', object })
  scene.task('a', { networks: [{ networkId: 'net', aliases: [] }] })
  scene.task('b', { networks: [{ networkId: 'other', aliases: [] }] })
  const { store } = scene
  t.deepEqual(wantedServers({ store }, OPTIONS), [])
  const [server, ...more] = wantedServers({ store, hasVirtualAddresses: true }, OPTIONS)
  t.deepEqual(more, [])
  t.like(server, { id: 'web/net', protocol: 'any', address: '10.96.0.2', port: 0, scheduler: 'mh' })
  t.deepEqual(
    server?.backends.map(({ taskId, address, port: on }) => [taskId, address, on]),
    [['a', '10.0.0.2', 0]],
  )
})

function userspace(dialer = new StreamDialer(() => Promise.reject(new Error('no mesh')))) {
  const random = seededRandom(1)
  const components = { clock: systemClock, random, log: silentLogger, dialer }
  return UserspaceBalancer.create(components)
}

test('commits move traffic at once: a new replica, a stopped one, a removed service', async (t) => {
  const scene = new Scene()
  const balancer = userspace()
  const components = { store: scene.store, balancer, log: silentLogger, clock: systemClock }
  const reconciler = new NetworkReconciler(components, OPTIONS)
  const peers = await Promise.all(['a', 'b'].map((name) => TestBackend.start(name)))
  t.teardown(async () => {
    await reconciler.stop()
    await balancer.close()
    for (const peer of peers) peer.stop()
  })
  const published = await freePort()
  scene.node('here')
  scene.service([port(published)])
  for (const peer of peers) scene.process(peer, published)
  reconciler.start()
  await until('it listens', () => reconciler.status().servers === 1)
  t.deepEqual([...(await census(published, 4)).values()], [2, 2])
  const old = await TestClient.open(published)
  const name = await old.ask()
  scene.update(name, { status: ended() })
  await until('the connection to the dead is closed', () => old.closed)
  const other = name === 'a' ? 'b' : 'a'
  t.deepEqual(await census(published, 4), new Map([[other, 4]]))
  scene.write({ type: 'remove', table: 'services', id: 'web' })
  await until('nothing is wanted', () => reconciler.status().servers === 0)
  await t.throwsAsync(ask(published))
})

/** Records what it is told; fails as told. */
class RecordingBalancer implements LoadBalancer {
  readonly name = 'userspace'
  readonly hasVirtualAddresses = false
  readonly reason = 'test'
  /** What was wanted after each call. */
  readonly applied: (readonly VirtualServer[])[] = []
  readonly #wanted = new Map<string, VirtualServer>()
  faults: readonly BalancerFault[] = []

  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.change(changeTo(this.#wanted, wanted))
  }

  change(change: ServerChange): Promise<readonly BalancerFault[]> {
    takeOver(this.#wanted, change)
    this.applied.push([...this.#wanted.values()])
    return Promise.resolve(this.faults)
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

test('commits in quick succession are one apply, and no commit is none', async (t) => {
  const scene = new Scene()
  const balancer = new RecordingBalancer()
  const components = { store: scene.store, balancer, log: silentLogger, clock: systemClock }
  const reconciler = new NetworkReconciler(components, OPTIONS)
  reconciler.start()
  await until('the first apply', () => balancer.applied.length === 1)
  scene.node('here')
  scene.service([port(8080)])
  for (let i = 0; i < 50; i += 1) scene.task(`task${i}`)
  await until('the second apply', () => balancer.applied.length === 2)
  t.is(balancer.applied[1]?.[0]?.backends.length, 50)
  scene.write({ type: 'create', table: 'networks', object: { id: 'n', spec: { Name: 'n' } } })
  scene.update('task7', { status: { ...running(), message: 'said again' } })
  await pause(50)
  t.is(balancer.applied.length, 2)
  await reconciler.stop()
  scene.task('late')
  await pause(30)
  t.is(balancer.applied.length, 2)
})

test('a fault is shown, and tried again by timer until it is gone', async (t) => {
  const balancer = new RecordingBalancer()
  const due: { delayMs: number; callback: () => void }[] = []
  const clock = {
    ...systemClock,
    after(delayMs: number, callback: () => void) {
      const entry = { delayMs, callback }
      due.push(entry)
      return { cancel: () => void due.splice(due.indexOf(entry), 1) }
    },
  }
  const fire = (delayMs: number): void => {
    const found = due.findIndex((entry) => entry.delayMs === delayMs)
    due.splice(found, 1)[0]?.callback()
  }
  const store = new Store()
  const components = { store, balancer, log: silentLogger, clock }
  const reconciler = new NetworkReconciler(components, OPTIONS)
  balancer.faults = [{ id: 'web/tcp/8080', message: 'port 8080: is taken' }]
  reconciler.start()
  fire(10)
  await until('the retry is planned', () => due.some((entry) => entry.delayMs === FAULT_RETRY_MS))
  t.deepEqual(reconciler.status().faults, balancer.faults)
  balancer.faults = []
  fire(FAULT_RETRY_MS)
  fire(10)
  await until('it is gone', () => reconciler.status().faults.length === 0)
  t.deepEqual(due, [])
  await reconciler.stop()
})

/** A far node with one task, and a dialer that reaches it. */
async function farNode(t: { teardown(fn: () => void): void }) {
  const scene = new Scene()
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
  const scene = new Scene()
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
