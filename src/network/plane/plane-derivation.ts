/**
 * The wanted plane, derived again only where something changed: what `wantedPlane` says of the
 * whole store, at a cost that does not grow with it. Lists of which nothing changed stay the same
 * objects.
 *
 * Members of networks are counted, one for each task or service that has the address: an address
 * goes when the last one does. The sets in a derived plane are this object's own and change at the
 * next `derive`; which addresses did is said with it.
 */
import { isDeepStrictEqual } from 'node:util'
import { isTerminal } from '../../store/objects.ts'
import type { Task } from '../../store/objects.ts'
import type { Change, Commit } from '../../store/view.ts'
import type { TimeSlices } from '../time-slices.ts'
import {
  hasIpv6,
  isPlaced,
  networksOf,
  ownPlaneTasks,
  planeBase,
  serviceMemberships,
  taskMemberships,
} from './wanted-plane.ts'
import type {
  Members,
  Membership,
  Networks,
  PlaneBase,
  PlaneNetwork,
  PlaneScene,
  PlaneTask,
  WantedPlane,
} from './wanted-plane.ts'

/** Addresses that came to a network or left it, by its id. */
export type TouchedMembers = ReadonlyMap<string, ReadonlySet<string>>

/** A derived plane. */
export interface DerivedPlane {
  readonly wanted: WantedPlane
  /** What may differ in members since the last one. */
  readonly touched: TouchedMembers
}

/** Where the plane comes from. */
export interface PlaneSources extends Pick<PlaneScene, 'store' | 'nodeId' | 'relayTo'> {
  readonly slices: TimeSlices
  /** Absent: this node's tasks are as the store says. */
  readonly ownTasks?: () => readonly Task[]
}

/** Derives planes by difference. */
export class PlaneDerivation {
  readonly #sources: PlaneSources
  /** What nodes and networks say; undefined: to be derived. */
  #base: PlaneBase | undefined
  #networks: Networks = new Map()
  readonly #members = new Map<string, CountedMembers>()
  /** Where each task and service is a member, by its table and id. */
  readonly #memberships = new Map<string, readonly Membership[]>()
  readonly #touched = new Map<string, Set<string>>()
  #own: ReadonlyMap<string, Task> = new Map()
  #tasks: readonly PlaneTask[] = []
  #areOwnDue = true
  #isAllDue = true
  readonly #dueTasks = new Set<string>()
  readonly #dueServices = new Set<string>()

  constructor(sources: PlaneSources) {
    this.#sources = sources
  }

  /** Whether anything of the commit matters here: most only tell how tasks are. */
  noteCommit(commit: Commit): boolean {
    if (commit.type === 'restored') {
      this.#base = undefined
      this.#isAllDue = true
      this.#areOwnDue = true
      return true
    }
    return commit.changes.filter((change) => this.#noteChange(change)).length > 0
  }

  noteOwnTasks(): void {
    this.#areOwnDue = true
  }

  /** Nodes are reached otherwise. */
  noteRelays(): void {
    this.#base = undefined
  }

  /** The plane as all is now; undefined while the node has no subnet. */
  async derive(): Promise<DerivedPlane | undefined> {
    this.#base ??= planeBase(this.#sources)
    const base = this.#base
    if (base === undefined) return undefined
    if (this.#isAllDue) this.#noteAll()
    this.#refreshOwn(base)
    for (const id of this.#dueTasks) {
      this.#dueTasks.delete(id)
      this.#place(`tasks ${id}`, this.#membershipsOf(this.#task(id)))
      await this.#sources.slices.maybeYield()
    }
    for (const id of this.#dueServices) {
      this.#dueServices.delete(id)
      const service = this.#sources.store.get('services', id)
      this.#place(`services ${id}`, service === undefined ? [] : serviceMemberships(service))
      await this.#sources.slices.maybeYield()
    }
    const touched = new Map(this.#touched)
    this.#touched.clear()
    const wanted = { ...base, tasks: this.#tasks, networks: this.#planeNetworks() }
    return { wanted, touched }
  }

  #noteAll(): void {
    const { store } = this.#sources
    this.#isAllDue = false
    this.#networks = networksOf(store)
    for (const key of this.#memberships.keys()) {
      const [table, id = ''] = key.split(' ')
      ;(table === 'tasks' ? this.#dueTasks : this.#dueServices).add(id)
    }
    for (const { id } of store.list('tasks')) this.#dueTasks.add(id)
    for (const { id } of store.list('services')) this.#dueServices.add(id)
  }

  #noteChange(change: Change): boolean {
    if (!isOfPlane(change)) return false
    switch (change.table) {
      case 'tasks':
        this.#dueTasks.add(change.id)
        this.#areOwnDue ||= this.#sources.ownTasks === undefined
        return true
      case 'services':
        this.#dueServices.add(change.id)
        return true
      case 'networks':
        this.#isAllDue = true
        break
      case 'nodes':
      case 'cluster':
        break
      default:
        return change satisfies never
    }
    this.#base = undefined
    this.#areOwnDue = true
    return true
  }

  #refreshOwn(base: PlaneBase): void {
    if (!this.#areOwnDue) return
    this.#areOwnDue = false
    const { store, nodeId, ownTasks } = this.#sources
    const own = ownTasks?.() ?? store.find('tasks', 'nodeId', nodeId)
    for (const id of [...this.#own.keys(), ...own.map((task) => task.id)]) this.#dueTasks.add(id)
    this.#own = new Map(own.map((task) => [task.id, task]))
    const placed = own.filter((task) => isPlaced(task) && task.nodeId === nodeId)
    const tasks = ownPlaneTasks(placed, base, this.#networks)
    if (!isDeepStrictEqual(tasks, this.#tasks)) this.#tasks = tasks
  }

  /** Of its own tasks a node believes itself. */
  #task(id: string): Task | undefined {
    const { store, nodeId, ownTasks } = this.#sources
    const own = this.#own.get(id)
    if (own !== undefined) return own
    const known = store.get('tasks', id)
    return ownTasks !== undefined && known?.nodeId === nodeId ? undefined : known
  }

  #membershipsOf(task: Task | undefined): readonly Membership[] {
    if (task === undefined || !isPlaced(task)) return []
    return taskMemberships(task, this.#sources.nodeId, this.#networks)
  }

  #place(key: string, after: readonly Membership[]): void {
    const before = this.#memberships.get(key) ?? []
    if (isDeepStrictEqual(before, after)) return
    for (const [networkId, address] of after) {
      this.#membersOf(networkId).add(address)
      this.#touch(networkId, address)
    }
    for (const [networkId, address] of before) {
      this.#membersOf(networkId).remove(address)
      this.#touch(networkId, address)
    }
    if (after.length === 0) this.#memberships.delete(key)
    else this.#memberships.set(key, after)
  }

  #membersOf(networkId: string): CountedMembers {
    const known = this.#members.get(networkId)
    if (known !== undefined) return known
    const members = new CountedMembers()
    this.#members.set(networkId, members)
    return members
  }

  #touch(networkId: string, address: string): void {
    const addresses = this.#touched.get(networkId)
    if (addresses === undefined) this.#touched.set(networkId, new Set([address]))
    else addresses.add(address)
  }

  #planeNetworks(): PlaneNetwork[] {
    const ids = new Set(this.#tasks.flatMap((task) => task.networkIds))
    return [...ids].toSorted().map((id) => ({
      id,
      members: this.#membersOf(id),
      hasIpv6: hasIpv6(this.#networks.get(id)),
    }))
  }
}

/** Addresses, each as often as it was added. */
class CountedMembers implements Members {
  readonly #counts = new Map<string, number>()

  has(address: string): boolean {
    return this.#counts.has(address)
  }

  [Symbol.iterator](): IterableIterator<string> {
    return this.#counts.keys()
  }

  add(address: string): void {
    this.#counts.set(address, (this.#counts.get(address) ?? 0) + 1)
  }

  remove(address: string): void {
    const count = this.#counts.get(address) ?? 0
    if (count > 1) this.#counts.set(address, count - 1)
    else this.#counts.delete(address)
  }
}

/** Whether a change may change the plane. */
function isOfPlane(change: Change): boolean {
  const { table, before, after } = change
  if (before === undefined || after === undefined) return true
  switch (table) {
    case 'tasks':
      return (
        before.address !== after.address ||
        before.nodeId !== after.nodeId ||
        before.networks !== after.networks ||
        isTerminal(before.status.state) !== isTerminal(after.status.state)
      )
    case 'services':
      return before.endpoint !== after.endpoint
    case 'nodes':
      return (
        before.subnet !== after.subnet ||
        before.advertiseHost !== after.advertiseHost ||
        before.description !== after.description
      )
    case 'networks':
      return true
    case 'cluster':
      return false
    default:
      return change satisfies never
  }
}
