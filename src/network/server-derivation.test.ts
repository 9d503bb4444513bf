/** Servers derived by difference are those derived from everything. */
import test from 'ava'
import { at } from '../base/assert.ts'
import { seededRandom } from '../base/random.ts'
import type { Random } from '../base/random.ts'
import type { Service, Task } from '../store/objects.ts'
import { Store } from '../store/store.ts'
import {
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  maybeWriteTo,
} from '../store/testing/fixtures.ts'
import type { Action, Draft } from '../store/transaction.ts'
import type { VirtualServer } from './ports.ts'
import { takeOver } from './server-change.ts'
import { ServerDerivation } from './server-derivation.ts'
import { TimeSlices } from './time-slices.ts'
import { wantedServers } from './wanted-servers.ts'
import type { LinkState } from './wanted-servers.ts'

const OPTIONS = { nodeId: 'n0', listenAddress: '0.0.0.0', routed: true, hasVirtualAddresses: true }
const NODES = ['n0', 'n1', 'n2', 'n3']
const SERVICES = ['s0', 's1', 's2', 's3']
const LINKS: readonly LinkState[] = ['direct', 'relayed', 'none']
const STATES = ['starting', 'running', 'failed'] as const
const HEALTH = [{}, { health: 'healthy' }, { health: 'unhealthy' }] as const
const STARTED = { timestamp: '2026-01-01T00:00:00Z', message: '' }

/** A store that random things happen to, with what the node knows itself. */
class World {
  readonly store = new Store()
  readonly random: Random
  readonly links = new Map<string, LinkState>()
  own: readonly Task[] = []
  #tasks = 0

  constructor(seed: number) {
    this.random = seededRandom(seed)
    for (const id of NODES.slice(0, 2)) {
      this.write({ type: 'create', table: 'nodes', object: nodeDraft(id) })
    }
  }

  linkTo(nodeId: string): LinkState {
    return this.links.get(nodeId) ?? 'direct'
  }

  pick<T>(list: readonly T[]): T {
    return at(list, this.random.integer(list.length))
  }

  /** What a rule of the store refuses does not happen. */
  write(...actions: Action[]): void {
    maybeWriteTo(this.store, ...actions)
  }

  /** One random thing. */
  step(derivation: ServerDerivation): void {
    switch (this.random.integer(8)) {
      case 0:
        return this.#changeNode()
      case 1:
        return this.#changeService()
      case 2:
        this.links.set(this.pick(NODES), this.pick(LINKS))
        return derivation.noteLinks()
      case 3:
        this.own = this.store
          .find('tasks', 'nodeId', 'n0')
          .filter(() => this.random.integer(4) > 0)
          .map((task) => ({ ...task, status: this.#status() }))
        return derivation.noteOwnTasks()
      default:
        return this.#changeTask()
    }
  }

  #changeNode(): void {
    const id = this.pick(NODES)
    const node = this.store.get('nodes', id)
    const state = this.pick(['ready', 'down'] as const)
    if (node === undefined) {
      this.write({ type: 'create', table: 'nodes', object: nodeDraft(id) })
      return
    }
    const { meta, ...draft } = node
    const balancer = { name: this.pick(['ipvs', 'nftables', 'userspace']), reason: '' }
    const description = { ...draft.description, balancer }
    const object = { ...draft, description, status: { state, message: '' } }
    if (this.random.integer(4) > 0) {
      this.write({ type: 'update', table: 'nodes', object, version: meta.version })
    } else this.write({ type: 'remove', table: 'nodes', id, version: meta.version })
  }

  #changeService(): void {
    const id = this.pick(SERVICES)
    const service = this.store.get('services', id)
    const number = SERVICES.indexOf(id)
    const published = { protocol: 'tcp', targetPort: 80, publishedPort: 8_000 + number } as const
    const publishMode = this.pick(['ingress', 'host'] as const)
    const address = `10.96.0.${number}`
    const endpoint: Service['endpoint'] = {
      ports: this.random.integer(3) > 0 ? [{ ...published, publishMode }] : [],
      allocatedFor: 0,
      virtualAddresses: this.random.integer(3) > 0 ? [{ networkId: 'net', address }] : [],
    }
    if (service === undefined) {
      const object = { ...serviceDraft(id, serviceSpec(id)), endpoint }
      this.write({ type: 'create', table: 'services', object })
      return
    }
    const { meta, ...draft } = service
    const { version } = meta
    if (this.random.integer(4) === 0) this.write({ type: 'remove', table: 'services', id, version })
    else this.write({ type: 'update', table: 'services', object: { ...draft, endpoint }, version })
  }

  #changeTask(): void {
    const tasks = this.store.list('tasks')
    if (tasks.length < 12 && this.random.integer(2) === 0) {
      this.#tasks += 1
      const object = taskDraft(`t${this.#tasks}`, {
        serviceId: this.pick(SERVICES),
        slot: this.#tasks,
        nodeId: this.pick(NODES),
        address: `10.32.0.${this.#tasks % 250}`,
        networks: this.random.integer(2) === 0 ? [{ networkId: 'net', aliases: [] }] : [],
        status: this.#status(),
      })
      this.write({ type: 'create', table: 'tasks', object })
      return
    }
    if (tasks.length === 0) return
    const { meta, ...draft } = this.pick(tasks)
    const { version } = meta
    const object: Draft<Task> = { ...draft, ...this.#news() }
    if (this.random.integer(5) === 0) {
      this.write({ type: 'remove', table: 'tasks', id: draft.id, version })
    } else this.write({ type: 'update', table: 'tasks', object, version })
  }

  #status(): Task['status'] {
    return { ...STARTED, state: this.pick(STATES), ...this.pick(HEALTH) }
  }

  #news(): Partial<Draft<Task>> {
    if (this.random.integer(3) === 0) return { desiredState: 'shutdown' }
    return { status: { ...this.#status(), message: 'again' } }
  }
}

function inOrder(servers: ReadonlyMap<string, VirtualServer>): VirtualServer[] {
  return [...servers.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

test('after any changes the servers are those that the whole store wants', async (t) => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const world = new World(seed)
    const derivation = new ServerDerivation(
      {
        store: world.store,
        slices: new TimeSlices({ monotonicMs: () => 0 }),
        ownTasks: () => world.own,
        linkTo: (nodeId) => world.linkTo(nodeId),
      },
      OPTIONS,
    )
    world.store.onCommit((commit) => derivation.noteCommit(commit))
    const told = new Map<string, VirtualServer>()
    for (let round = 0; round < 40; round += 1) {
      for (let step = world.random.integer(5); step > 0; step -= 1) world.step(derivation)
      const change = await derivation.refresh()
      for (const server of change.set) t.notDeepEqual(told.get(server.id), server)
      takeOver(told, change)
      const { store, own } = world
      const scene = { ...OPTIONS, store, own, linkTo: (id: string) => world.linkTo(id) }
      const expected = wantedServers(scene, OPTIONS)
      const byId = new Map(expected.map((server) => [server.id, server]))
      t.deepEqual(inOrder(told), inOrder(byId), `seed ${seed}`)
    }
  }
})

test('what does not concern servers is passed over, and a restored store is read anew', async (t) => {
  const world = new World(1)
  const { store } = world
  const slices = new TimeSlices({ monotonicMs: () => 0 })
  const derivation = new ServerDerivation({ store, slices }, OPTIONS)
  const heard: boolean[] = []
  store.onCommit((commit) => heard.push(derivation.noteCommit(commit)))
  const service = serviceDraft('s0', serviceSpec('s0'))
  const endpoint = {
    ports: [],
    allocatedFor: 0,
    virtualAddresses: [{ networkId: 'net', address: '10.96.0.1' }],
  }
  world.write({ type: 'create', table: 'services', object: { ...service, endpoint } })
  await derivation.refresh()
  world.write({ type: 'create', table: 'networks', object: { id: 'net', spec: { Name: 'net' } } })
  const node = at(store.list('nodes'), 0)
  const { meta, ...draft } = node
  const object = { ...draft, description: { ...draft.description, hostname: 'renamed' } }
  world.write({ type: 'update', table: 'nodes', object, version: meta.version })
  t.deepEqual(heard, [true, false, false])
  t.deepEqual(await derivation.refresh(), { set: [], removed: [] })
  const { meta: later } = at(store.list('nodes'), 0)
  const moved = { ...object, advertiseHost: '192.0.2.9' }
  world.write({ type: 'update', table: 'nodes', object: moved, version: later.version })
  t.true(heard.at(-1), 'tunnels to it end elsewhere now, or nowhere')
  await derivation.refresh()
  store.load(new Store().image())
  t.is(heard.at(-1), true)
  t.deepEqual(await derivation.refresh(), { set: [], removed: ['s0/net'] })
})
