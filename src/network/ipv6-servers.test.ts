/** What a service answers on in IPv6, and what becomes of flows of datagrams. */
import test from 'ava'
import type { AllocatedPort, Network, Task } from '../store/objects.ts'
import { Store } from '../store/store.ts'
import {
  clusterDraft,
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  writeTo,
} from '../store/testing/fixtures.ts'
import type { Action, Draft } from '../store/transaction.ts'
import { ipv6Of, ipv6PrefixOf } from '../store/ipv6.ts'
import type { VirtualServer } from './ports.ts'
import { wantedServers } from './wanted-servers.ts'

const OPTIONS = { nodeId: 'here', listenAddress: '0.0.0.0', hasIpv6: true }
const PREFIX = ipv6PrefixOf(clusterDraft().id)
const TWIN = ipv6Of(PREFIX, '10.0.0.2')

/** A store with a network with IPv6, one without, and the service `web` on the first. */
class Scene {
  readonly store = new Store()

  constructor(ports: readonly Partial<AllocatedPort>[], on = ['six']) {
    this.write({ type: 'create', table: 'cluster', object: clusterDraft() })
    this.write({ type: 'create', table: 'nodes', object: nodeDraft('here') })
    for (const [id, EnableIPv6] of [
      ['six', true],
      ['four', false],
    ] as const) {
      const object: Draft<Network> = { id, spec: { Name: id, EnableIPv6 }, subnet: '10.9.0.0/24' }
      this.write({ type: 'create', table: 'networks', object })
    }
    const virtualAddresses = on.map((networkId) => ({ networkId, address: '10.9.0.2' }))
    const all = ports.map((port) => ({ ...PORT, ...port }))
    const endpoint = { ports: all, allocatedFor: 0, virtualAddresses }
    const object = { ...serviceDraft('web', serviceSpec('web')), endpoint }
    this.write({ type: 'create', table: 'services', object })
  }

  write(...actions: Action[]): void {
    writeTo(this.store, ...actions)
  }

  task(id: string, on: readonly string[], fields: Partial<Draft<Task>> = {}): void {
    const networks = on.map((networkId) => ({ networkId, aliases: [] }))
    const place = { serviceId: 'web', nodeId: 'here', address: '10.0.0.2', networks }
    const object = taskDraft(id, { ...place, status: RUNNING, ...fields })
    this.write({ type: 'create', table: 'tasks', object })
  }

  /** Servers of the id, as `address → backends`. */
  shown(id: string, options = OPTIONS): string[] {
    const show = ({ address, backends }: VirtualServer): string =>
      `${address} → ${backends.map((one) => `${one.taskId} ${one.address} ${one.weight}`).join(', ')}`
    return wantedServers({ store: this.store, hasVirtualAddresses: true }, options)
      .filter((server) => server.id.startsWith(id))
      .map(show)
  }
}

const PORT: AllocatedPort = {
  protocol: 'tcp',
  targetPort: 80,
  publishedPort: 8080,
  publishMode: 'ingress',
}
const RUNNING = { state: 'running', timestamp: '2026-01-01T00:00:00Z', message: '' } as const

test('a published port answers in IPv6: to IPv6 addresses where all that serve have them', (t) => {
  const scene = new Scene([{}])
  scene.task('a', ['six'])
  t.deepEqual(scene.shown('web/tcp'), ['0.0.0.0 → a 10.0.0.2 4', `:: → a ${TWIN} 4`])
  scene.task('b', ['four'])
  t.deepEqual(scene.shown('web/tcp')[1], ':: → a 10.0.0.2 4, b 10.0.0.2 4')
})

test('who drains without an IPv6 address does not keep the others from theirs', (t) => {
  const scene = new Scene([{}])
  scene.task('a', ['six'])
  scene.task('b', ['four'], { desiredState: 'shutdown' })
  t.deepEqual(scene.shown('web/tcp')[1], `:: → a ${TWIN} 4, b 10.0.0.2 0`)
})

test('a process is reached in IPv6 by its port on loopback', (t) => {
  const scene = new Scene([{}], [])
  scene.task('a', [], { status: { ...RUNNING, ports: [{ targetPort: 80, hostPort: 99 }] } })
  t.deepEqual(scene.shown('web/tcp')[1], ':: → a 127.0.0.1 4')
})

test('SCTP answers in IPv6 where the kernel can take it, since nothing else could', (t) => {
  const scene = new Scene([{ protocol: 'sctp' }])
  scene.task('a', ['six'])
  t.is(scene.shown('web/sctp').length, 2)
  scene.task('b', ['four'])
  t.is(scene.shown('web/sctp').length, 1)
})

test('a host without IPv6, and one of several on loopback, answer in IPv4 alone', (t) => {
  const scene = new Scene([{}])
  scene.task('a', ['six'])
  t.is(scene.shown('web/tcp', { ...OPTIONS, hasIpv6: false }).length, 1)
  t.is(scene.shown('web/tcp', { ...OPTIONS, listenAddress: '127.0.0.2' }).length, 1)
})

test('a virtual address has its twin on networks with IPv6', (t) => {
  const scene = new Scene([], ['four', 'six'])
  scene.task('a', ['four', 'six'])
  t.deepEqual(scene.shown('web/four'), ['10.9.0.2 → a 10.0.0.2 4'])
  const virtual = ipv6Of(PREFIX, '10.9.0.2')
  t.deepEqual(scene.shown('web/six'), ['10.9.0.2 → a 10.0.0.2 4', `${virtual} → a ${TWIN} 4`])
})

test('datagrams leave a replica that drains when there is another', (t) => {
  const scene = new Scene([{ protocol: 'udp' }, {}])
  scene.task('a', ['six'], { desiredState: 'shutdown' })
  t.is(scene.shown('web/udp')[0], '0.0.0.0 → a 10.0.0.2 0')
  scene.task('b', ['six'])
  t.is(scene.shown('web/udp')[0], '0.0.0.0 → b 10.0.0.2 4')
  t.is(scene.shown('web/tcp')[0], '0.0.0.0 → a 10.0.0.2 0, b 10.0.0.2 4')
})
