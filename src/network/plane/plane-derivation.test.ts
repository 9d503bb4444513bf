/** A plane derived by difference is the one derived from everything. */
import test from 'ava'
import { at } from '../../base/assert.ts'
import { seededRandom } from '../../base/random.ts'
import type { Random } from '../../base/random.ts'
import type { Service, Task } from '../../store/objects.ts'
import { Store } from '../../store/store.ts'
import {
  clusterDraft,
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  maybeWriteTo,
} from '../../store/testing/fixtures.ts'
import type { Action, Draft } from '../../store/transaction.ts'
import { TimeSlices } from '../time-slices.ts'
import { PlaneDerivation } from './plane-derivation.ts'
import { elementText, memberElements, reachText, touchedElements } from './plane-elements.ts'
import { wantedPlane } from './wanted-plane.ts'
import type { WantedPlane } from './wanted-plane.ts'

const HERE = 'n0'
const NODES = ['n0', 'n1', 'n2']
const NETWORKS = ['a', 'b', 'local']
const STATES = ['running', 'failed'] as const
const STARTED = { timestamp: '2026-01-01T00:00:00Z', message: '' }

/** A store that random things happen to, with what the node knows itself. */
class World {
  readonly store = new Store()
  readonly random: Random
  own: readonly Task[] = []
  /** The node that others are reached through; empty: none. */
  relay = ''
  #tasks = 0

  constructor(seed: number) {
    this.random = seededRandom(seed)
    this.write({ type: 'create', table: 'cluster', object: clusterDraft() })
    this.#createNode(HERE)
    for (const id of NETWORKS) this.#changeNetwork(id)
  }

  /** One random thing. */
  step(derivation: PlaneDerivation): void {
    switch (this.random.integer(9)) {
      case 0:
        return this.#changeNode()
      case 1:
        return this.#changeNetwork(this.#pick(NETWORKS))
      case 2:
        return this.#changeService()
      case 3:
        this.relay = this.#pick(['', 'n1', 'n2'])
        return derivation.noteRelays()
      case 4:
        this.own = this.store
          .find('tasks', 'nodeId', HERE)
          .filter(() => this.random.integer(4) > 0)
          .map((task) => ({ ...task, status: { ...STARTED, state: this.#pick(STATES) } }))
        return derivation.noteOwnTasks()
      default:
        return this.#changeTask()
    }
  }

  /** What a rule of the store refuses does not happen. */
  write(...actions: Action[]): void {
    maybeWriteTo(this.store, ...actions)
  }

  #pick<T>(list: readonly T[]): T {
    return at(list, this.random.integer(list.length))
  }

  #createNode(id: string): void {
    const number = NODES.indexOf(id)
    const place = { subnet: `10.32.${number}.0/24`, advertiseHost: `192.0.2.${1 + number}` }
    this.write({ type: 'create', table: 'nodes', object: nodeDraft(id, place) })
  }

  #changeNode(): void {
    const id = this.#pick(NODES.slice(1))
    const version = this.store.get('nodes', id)?.meta.version
    if (version === undefined) this.#createNode(id)
    else this.write({ type: 'remove', table: 'nodes', id, version })
  }

  #changeNetwork(id: string): void {
    const known = this.store.get('networks', id)
    const Driver = id === 'local' ? 'bridge' : 'overlay'
    const spec = { Name: id, Driver, EnableIPv6: this.random.integer(2) === 0 }
    const object = { id, spec, subnet: `10.9${NETWORKS.indexOf(id)}.0.0/16` }
    if (known === undefined) this.write({ type: 'create', table: 'networks', object })
    else this.write({ type: 'remove', table: 'networks', id, version: known.meta.version })
  }

  #changeService(): void {
    const id = this.#pick(['s0', 's1'])
    const known = this.store.get('services', id)
    const networkId = this.#pick(NETWORKS)
    const address = `10.9${NETWORKS.indexOf(networkId)}.0.${this.random.integer(2)}`
    const virtualAddresses = [{ networkId, address }]
    const endpoint: Service['endpoint'] = { ports: [], allocatedFor: 0, virtualAddresses }
    if (known === undefined) {
      const object = { ...serviceDraft(id, serviceSpec(id)), endpoint }
      this.write({ type: 'create', table: 'services', object })
      return
    }
    const { meta, ...draft } = known
    const { version } = meta
    if (this.random.integer(3) === 0) this.write({ type: 'remove', table: 'services', id, version })
    else this.write({ type: 'update', table: 'services', object: { ...draft, endpoint }, version })
  }

  #changeTask(): void {
    const tasks = this.store.list('tasks')
    if (tasks.length < 12 && this.random.integer(2) === 0) {
      this.#tasks += 1
      const networks = NETWORKS.filter(() => this.random.integer(2) === 0)
      const object = taskDraft(`t${this.#tasks}`, {
        slot: this.#tasks,
        nodeId: this.#pick(NODES),
        // Few of them: an address is used again, also before its last task is gone.
        address: `10.32.0.${this.random.integer(6)}`,
        networks: networks.map((networkId) => ({ networkId, aliases: [] })),
        status: { ...STARTED, state: 'running' },
      })
      this.write({ type: 'create', table: 'tasks', object })
      return
    }
    if (tasks.length === 0) return
    const { meta, ...draft } = this.#pick(tasks)
    const { version } = meta
    const object: Draft<Task> = { ...draft, status: { ...STARTED, state: this.#pick(STATES) } }
    if (this.random.integer(3) === 0) {
      this.write({ type: 'remove', table: 'tasks', id: draft.id, version })
    } else this.write({ type: 'update', table: 'tasks', object, version })
  }
}

/** The plane with members as lists in order. */
function plain(wanted: WantedPlane | undefined): unknown {
  const networks = wanted?.networks.map((network) => ({
    ...network,
    members: [...network.members].toSorted(),
  }))
  return { ...wanted, networks }
}

/** Elements of `members` as a table has them that is told what was touched, while that suffices. */
class Table {
  #texts: Set<string> | undefined
  #reach = ''

  apply(wanted: WantedPlane, touched: ReadonlyMap<string, ReadonlySet<string>>): string[] {
    const reach = reachText(wanted, 'ipv4')
    if (this.#texts === undefined || reach !== this.#reach) this.#texts = allTexts(wanted)
    else {
      for (const { element, isWanted } of touchedElements(wanted, 'ipv4', touched)) {
        if (isWanted) this.#texts.add(elementText(element))
        else this.#texts.delete(elementText(element))
      }
    }
    this.#reach = reach
    return [...this.#texts].toSorted()
  }
}

function allTexts(wanted: WantedPlane): Set<string> {
  return new Set([...memberElements(wanted, 'ipv4')].map(elementText))
}

test('after any changes the plane is the one that the whole store wants', async (t) => {
  for (let seed = 1; seed <= 80; seed += 1) {
    const world = new World(seed)
    const { store } = world
    const relayTo = (nodeId: string): string | undefined =>
      world.relay === '' || nodeId === world.relay ? undefined : world.relay
    const derivation = new PlaneDerivation({
      store,
      nodeId: HERE,
      slices: new TimeSlices({ monotonicMs: () => 0 }),
      ownTasks: () => world.own,
      relayTo,
    })
    store.onCommit((commit) => derivation.noteCommit(commit))
    const table = new Table()
    for (let round = 0; round < 40; round += 1) {
      for (let step = world.random.integer(4); step > 0; step -= 1) world.step(derivation)
      const derived = await derivation.derive()
      const expected = wantedPlane({ store, nodeId: HERE, own: world.own, relayTo })
      t.deepEqual(plain(derived?.wanted), plain(expected), `seed ${seed}`)
      if (derived === undefined || expected === undefined) continue
      const texts = table.apply(derived.wanted, derived.touched)
      t.deepEqual(texts, [...allTexts(expected)].toSorted(), `seed ${seed}`)
    }
  }
})

test('what nothing changed of stays the same object, and touches no member', async (t) => {
  const world = new World(1)
  const { store } = world
  const slices = new TimeSlices({ monotonicMs: () => 0 })
  const derivation = new PlaneDerivation({ store, nodeId: HERE, slices })
  store.onCommit((commit) => derivation.noteCommit(commit))
  const task = (id: string, nodeId: string, address: string): Action => {
    const networks = [{ networkId: 'a', aliases: [] }]
    return { type: 'create', table: 'tasks', object: taskDraft(id, { nodeId, address, networks }) }
  }
  world.write(task('t1', HERE, '10.32.0.2'), task('t2', 'n1', '10.32.1.2'))
  const first = await derivation.derive()
  world.write(task('t3', 'n2', '10.32.2.2'))
  const second = await derivation.derive()
  t.deepEqual([...(second?.touched.get('a') ?? [])], ['10.32.2.2'])
  t.is(second?.wanted.tasks, first?.wanted.tasks)
  t.is(second?.wanted.peers, first?.wanted.peers)
  const { meta, ...draft } = at(store.list('tasks'), 2)
  const object = { ...draft, status: { ...draft.status, message: 'said again' } }
  world.write({ type: 'update', table: 'tasks', object, version: meta.version })
  t.is((await derivation.derive())?.touched.size, 0)
})
