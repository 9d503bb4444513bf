/** Which virtual servers a node wants, and who stands behind them, by the real store. */
import test from 'ava'
import { nodeDraft } from '../store/testing/fixtures.ts'
import { serviceDraft, serviceSpec } from '../store/testing/fixtures.ts'
import type { Task } from '../store/objects.ts'
import { LOOPBACK } from './conformance-peers.ts'
import type { Backend } from './ports.ts'
import { wantedServers } from './wanted-servers.ts'
import type { LinkState } from './wanted-servers.ts'
import { OPTIONS, ServiceScene, fail, port, running, ended } from './testing/service-scene.ts'

function backendsIn(scene: ServiceScene): string[] {
  const [server] = wantedServers(scene, OPTIONS)
  return (server?.backends ?? []).map(
    (b) =>
      `${b.taskId}@${b.nodeId} ${b.local ? 'local' : 'remote'} ${b.address}:${b.port} w${b.weight}`,
  )
}

test('running replicas on nodes that are up are the backends of a published port', (t) => {
  const scene = new ServiceScene()
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

test('routes lead to replicas on nodes with a plane, others are dialled', (t) => {
  const scene = new ServiceScene()
  const { description } = nodeDraft('bare')
  const balancer = { name: 'userspace', reason: 'no nftables' }
  for (const id of ['here', 'there']) scene.node(id)
  scene.node('bare', 'ready', { description: { ...description, balancer } })
  scene.service([port(8080)])
  scene.task('a')
  scene.task('b', { nodeId: 'there', address: '10.0.1.2' })
  scene.task('c', { nodeId: 'bare', address: '10.0.2.2' })
  const routed = (isRouted: boolean): (boolean | undefined)[] =>
    wantedServers({ store: scene.store, routed: isRouted }, OPTIONS).flatMap(({ backends }) =>
      backends.map((backend) => backend.routed),
    )
  t.deepEqual(routed(true), [true, true, false])
  t.deepEqual(routed(false), [true, false, false])
})

test('where no tunnel can be, replicas are dialled', (t) => {
  const scene = new ServiceScene()
  const hosts = { here: '10.9.0.1', there: '10.9.0.2', named: 'site.example', other: 'fd09::3' }
  for (const [id, advertiseHost] of Object.entries(hosts))
    scene.node(id, 'ready', { advertiseHost })
  scene.service([port(8080)])
  for (const nodeId of Object.keys(hosts)) scene.task(nodeId, { nodeId, address: '10.0.1.2' })
  const [server] = wantedServers({ store: scene.store, routed: true }, OPTIONS)
  const routed = server?.backends.map((backend) => [backend.nodeId, backend.routed])
  t.deepEqual(Object.fromEntries(routed ?? []), {
    here: true,
    there: true,
    named: false,
    other: false,
  })
})

test('a process answers on the loopback ports that its node reported, no others', (t) => {
  const scene = new ServiceScene()
  scene.node('here')
  scene.service([port(8080)])
  scene.task('a', { status: running([{ targetPort: 80, hostPort: 40_001 }]) })
  scene.task('b', { status: running([{ targetPort: 81, hostPort: 40_002 }]) })
  t.deepEqual(backendsIn(scene), [`a@here local ${LOOPBACK}:40001 w4`])
})

test('a node that the leader believes down still serves its own replicas', (t) => {
  const scene = new ServiceScene()
  scene.node('here', 'down')
  scene.service([port(8080)])
  scene.task('a')
  t.is(backendsIn(scene).length, 1)
})

test('of its own replicas a node believes itself, of others the store', (t) => {
  const scene = new ServiceScene()
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
  const scene = new ServiceScene()
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
  const scene = new ServiceScene()
  scene.node('here')
  scene.node('there')
  scene.service([port(8080, { publishMode: 'host' })])
  scene.task('a', { nodeId: 'there' })
  t.deepEqual(wantedServers(scene, OPTIONS), [])
  scene.task('b')
  t.deepEqual(backendsIn(scene), ['b@here local 10.0.0.2:80 w4'])
})

test('a port without replicas has a virtual server, a port not allocated has none', (t) => {
  const scene = new ServiceScene()
  scene.service([port(0)])
  t.deepEqual(wantedServers(scene, OPTIONS), [])
  scene.service([port(8081, { protocol: 'udp' })], 'dns')
  t.deepEqual(
    wantedServers(scene, OPTIONS).map((server) => [server.id, server.backends.length]),
    [['dns/udp/8081', 0]],
  )
})

test('a dead link is lost and gets nothing new, a relayed one less, the last one is kept', (t) => {
  const scene = new ServiceScene()
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
  const scene = new ServiceScene()
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
