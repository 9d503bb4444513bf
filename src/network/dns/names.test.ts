/** Names derived by difference are those derived from everything. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { seededRandom } from '../../base/random.ts'
import type { Random } from '../../base/random.ts'
import type { Network, Service, TableName, Tables, Task } from '../../store/objects.ts'
import { Store } from '../../store/store.ts'
import {
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  taskSpec,
  writeTo,
  maybeWriteTo,
} from '../../store/testing/fixtures.ts'
import type { Action, Draft } from '../../store/transaction.ts'
import type { Indexes } from '../../store/view.ts'
import { TimeSlices } from '../time-slices.ts'
import { Names } from './names.ts'
import type { NamesSources } from './names.ts'

const OPTIONS = { nodeId: 'n0', hasVirtualAddresses: true, routed: true }
const NODES = ['n0', 'n1', 'n2']
const NETWORKS = ['front', 'back', 'bridge']
const SERVICES = ['s0', 's1', 's2']
const ALIASES = ['shop', 's1', 'host-1']
const STATES = ['starting', 'running', 'failed'] as const
const TASKS_MAX = 12
const TIME = '2026-01-01T00:00:00Z'

/** A store that random things happen to, with what the node knows itself. */
class World {
  readonly store: Store
  readonly random: Random
  own: readonly Task[] = []
  #tasks = 0

  constructor(seed: number, store = new Store()) {
    this.store = store
    this.random = seededRandom(seed)
    for (const id of NODES) this.write({ type: 'create', table: 'nodes', object: nodeDraft(id) })
    for (const id of NETWORKS) {
      this.write({ type: 'create', table: 'networks', object: this.#network(id) })
    }
  }

  sources(): NamesSources {
    const slices = new TimeSlices({ monotonicMs: () => 0 })
    return { store: this.store, slices, ownTasks: () => this.own }
  }

  pick<T>(list: readonly T[]): T {
    return at(list, this.random.integer(list.length))
  }

  some<T>(list: readonly T[]): T[] {
    return list.filter(() => this.random.integer(2) === 0)
  }

  /** What a rule of the store refuses does not happen. */
  write(...actions: Action[]): void {
    maybeWriteTo(this.store, ...actions)
  }

  /** One random thing. */
  step(names: Names): void {
    switch (this.random.integer(8)) {
      case 0:
        return this.#changeNode()
      case 1:
        return this.#changeService()
      case 2:
        this.own = this.store.find('tasks', 'nodeId', 'n0').map((task) => {
          return this.random.integer(2) === 0 ? task : { ...task, status: this.#status() }
        })
        return names.noteOwnTasks()
      case 3:
        return this.#changeNetwork()
      default:
        return this.#changeTask()
    }
  }

  #network(id: string): Draft<Network> {
    const driver = id === 'bridge' ? 'bridge' : 'overlay'
    const [isInternal, hasIpv6] = [this.random.integer(2) === 0, this.random.integer(2) === 0]
    return { id, spec: { Name: id, Driver: driver, Internal: isInternal, EnableIPv6: hasIpv6 } }
  }

  #changeNetwork(): void {
    if (this.random.integer(4) > 0) return
    const id = this.pick(NETWORKS)
    const version = this.store.get('networks', id)?.meta.version
    if (version === undefined) {
      this.write({ type: 'create', table: 'networks', object: this.#network(id) })
    } else this.write({ type: 'remove', table: 'networks', id, version })
  }

  #changeNode(): void {
    const { meta, ...draft } = at(this.store.list('nodes'), this.random.integer(NODES.length))
    const status = { state: this.pick(['ready', 'down'] as const), message: '' }
    const object = { ...draft, status }
    this.write({ type: 'update', table: 'nodes', object, version: meta.version })
  }

  #changeService(): void {
    const id = this.pick(SERVICES)
    const on = this.some(NETWORKS)
    const networks = on.map((networkId) => ({ networkId, aliases: this.some(ALIASES) }))
    const address = `10.96.0.${SERVICES.indexOf(id)}`
    const virtualAddresses = this.some(on).map((networkId) => ({ networkId, address }))
    const endpoint: Service['endpoint'] = { ports: [], allocatedFor: 0, networks, virtualAddresses }
    const service = this.store.get('services', id)
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
    if (tasks.length < TASKS_MAX && this.random.integer(2) === 0) {
      this.#createTask()
      return
    }
    if (tasks.length === 0) return
    const { meta, ...draft } = this.pick(tasks)
    const { version } = meta
    if (this.random.integer(5) === 0) {
      this.write({ type: 'remove', table: 'tasks', id: draft.id, version })
      return
    }
    const news: Partial<Draft<Task>> =
      this.random.integer(3) === 0 ? { desiredState: 'shutdown' } : { status: this.#status() }
    this.write({ type: 'update', table: 'tasks', object: { ...draft, ...news }, version })
  }

  #createTask(): void {
    this.#tasks += 1
    const serviceId = this.pick(SERVICES)
    const object = taskDraft(`task-number-${this.#tasks}`, {
      serviceId,
      serviceName: serviceId,
      slot: this.#tasks,
      nodeId: this.pick(NODES),
      address: `10.32.0.${this.#tasks}`,
      networks: this.some(NETWORKS).map((networkId) => ({ networkId, aliases: [] })),
      spec: taskSpec({ ContainerSpec: { Image: 'web:1', Hostname: this.pick(['', 'host-1']) } }),
      status: this.#status(),
    })
    this.write({ type: 'create', table: 'tasks', object })
  }

  #status(): Task['status'] {
    const isIll = this.random.integer(5) === 0
    const health = isIll ? ({ health: 'unhealthy' } as const) : {}
    return { state: this.pick(STATES), timestamp: TIME, message: '', ...health }
  }
}

/** All that can be asked, and what is answered. */
function everything(names: Names, { store }: World): unknown[] {
  const tasks = store.list('tasks')
  const addresses = [
    ...tasks.map(({ address = '' }) => address),
    ...SERVICES.map((_, index) => `10.96.0.${index}`),
  ]
  const words = [
    ...SERVICES,
    ...ALIASES,
    ...SERVICES.map((id) => `tasks.${id}`),
    ...tasks.map(({ id }) => id.slice(0, 12)),
    ...tasks.map(({ id, slot, serviceName }) => `${serviceName}.${slot}.${id}`),
  ]
  const asked = [...words, ...words.flatMap((word) => NETWORKS.map((id) => `${word}.${id}`))]
  const all = { taskId: '', networkIds: NETWORKS, outside: true }
  return [
    addresses.map((address) => names.callerAt(address)),
    [all, ...NETWORKS.map((id) => ({ ...all, networkIds: [id] }))].map((caller) => [
      asked.map((word) => names.lookup(caller, word)),
      addresses.map((address) => names.reverse(caller, address)),
      NETWORKS.map((id) => names.endsInNetwork(caller, `x.${id}`)),
    ]),
  ]
}

test('after any changes the names are those of the whole store', async (t) => {
  for (let seed = 1; seed <= 30; seed += 1) {
    const world = new World(seed)
    const names = new Names(world.sources(), OPTIONS)
    world.store.onCommit((commit) => names.noteCommit(commit))
    for (let round = 0; round < 30; round += 1) {
      for (let step = world.random.integer(5); step > 0; step -= 1) world.step(names)
      await names.refresh()
      const fresh = new Names(world.sources(), OPTIONS)
      await fresh.refresh()
      t.deepEqual(everything(names, world), everything(fresh, world), `seed ${seed}`)
    }
  }
})

/** A store that counts what is read of it. */
class CountingStore extends Store {
  reads = 0

  override find<T extends TableName, I extends keyof Indexes[T] & string>(
    table: T,
    index: I,
    key: string,
  ): Tables[T][] {
    this.reads += 1
    return super.find(table, index, key)
  }
}

/** So many services of one task each. */
function largeWorld(services: number): { store: CountingStore; sources: NamesSources } {
  const store = new CountingStore()
  const world = new World(1, store)
  const networks = [{ networkId: 'front', aliases: [] }]
  for (let number = 0; number < services; number += 1) {
    const id = `large${number}`
    const endpoint = { ports: [], allocatedFor: 0, networks }
    const object = { ...serviceDraft(id, serviceSpec(id)), endpoint }
    const address = `10.40.${number >> 8}.${number & 255}`
    const where = { serviceId: id, serviceName: id, nodeId: 'n1', address, networks }
    const task = taskDraft(`task-of-${id}`, where)
    world.write(
      { type: 'create', table: 'services', object },
      { type: 'create', table: 'tasks', object: task },
    )
  }
  return { store, sources: world.sources() }
}

test('a change costs what its service costs, and a restored store is read anew', async (t) => {
  const { store, sources } = largeWorld(200)
  const names = new Names(sources, OPTIONS)
  store.onCommit((commit) => names.noteCommit(commit))
  const caller = { taskId: '', networkIds: ['front'], outside: true }
  await names.refresh()
  t.deepEqual(names.lookup(caller, 'large7')?.addresses, ['10.40.0.7'])
  const before = store.reads
  t.true(before >= 200)
  const { meta, ...draft } = at(store.findByIdPrefix('tasks', 'task-of-large7'), 0)
  const object = { ...draft, address: '10.40.9.9' }
  const update = { type: 'update', table: 'tasks', object, version: meta.version } as const
  writeTo(store, update)
  await Promise.all([names.refresh(), names.refresh()])
  t.deepEqual(names.lookup(caller, 'large7')?.addresses, ['10.40.9.9'])
  t.is(store.reads - before, 1, 'the tasks of one service')
  await names.refresh()
  t.is(store.reads - before, 1, 'nothing happened')
  store.load(new Store().image())
  await names.refresh()
  t.is(names.lookup(caller, 'large7'), undefined)
})

test('who asks during a long derivation waits for its end', async (t) => {
  const { sources } = largeWorld(200)
  let nowMs = 0
  const slices = new TimeSlices({ monotonicMs: () => (nowMs += 5) })
  const names = new Names({ ...sources, slices }, OPTIONS)
  const caller = { taskId: '', networkIds: ['front'], outside: true }
  const first = names.refresh()
  const asked: Promise<unknown>[] = []
  await new Promise((resolve) => {
    setImmediate(resolve)
  })
  t.is(names.lookup(caller, 'large99'), undefined, 'it goes on')
  for (let count = 0; count < 3; count += 1) {
    asked.push(names.refresh().then(() => names.lookup(caller, 'large99')?.addresses))
  }
  t.deepEqual(
    await Promise.all(asked),
    [1, 2, 3].map(() => ['10.40.0.99']),
  )
  await first
})
