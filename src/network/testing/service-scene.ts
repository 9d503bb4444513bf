/** A store with published services and their replicas, for tests of what a node balances. */
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import { Store } from '../../store/store.ts'
import {
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  writeTo,
} from '../../store/testing/fixtures.ts'
import type { AllocatedPort, Node, Task } from '../../store/objects.ts'
import type { Action, Draft } from '../../store/transaction.ts'
import type { TestBackend } from '../conformance-peers.ts'
import { LOOPBACK } from '../conformance-peers.ts'
import { StreamDialer } from '../remote-dial.ts'
import { UserspaceBalancer } from '../userspace/balancer.ts'

/** How `here` derives its servers. */
export const OPTIONS = { nodeId: 'here', listenAddress: LOOPBACK }

/** A store, and the words in which a test writes to it. */
export class ServiceScene {
  readonly store = new Store()

  write(...actions: Action[]): void {
    writeTo(this.store, ...actions)
  }

  node(id: string, state: Node['status']['state'] = 'ready', fields: Partial<Node> = {}): void {
    const object = nodeDraft(id, { status: { state, message: '' }, ...fields })
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

/** For what a test knows to be there. */
export function fail(what: string): never {
  throw new Error(`${what}: is missing`)
}

/** A port of TCP in ingress mode, if not told otherwise. */
export function port(publishedPort: number, fields: Partial<AllocatedPort> = {}): AllocatedPort {
  return { protocol: 'tcp', targetPort: 80, publishedPort, publishMode: 'ingress', ...fields }
}

/** The status of a task that runs, with the ports that it was given. */
export function running(ports?: Task['status']['ports']): Task['status'] {
  const status = {
    state: 'running',
    timestamp: '2026-01-01T00:00:00Z',
    message: 'started',
  } as const
  return ports === undefined ? status : { ...status, ports }
}

/** The status of a task that has ended. */
export function ended(): Task['status'] {
  return { ...running(), state: 'shutdown', message: 'stopped' }
}

/** The userspace driver; without a mesh if not told otherwise. */
export function userspace(
  dialer = new StreamDialer(() => Promise.reject(new Error('no mesh'))),
): UserspaceBalancer {
  const random = seededRandom(1)
  const components = { clock: systemClock, random, log: silentLogger, dialer }
  return UserspaceBalancer.create(components)
}
