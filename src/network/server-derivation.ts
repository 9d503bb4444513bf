/**
 * The wanted servers of this node, derived again only where something changed: a commit, a task of
 * this node, a link. What `wantedServers` says of the whole store is true here, too, one service at
 * a time; a server of which nothing changed stays the same object.
 *
 * Invariant: after `refresh`, but for what was noted since, `servers` is what the store, the own
 * tasks and the links say. A long refresh pauses between services.
 */
import { isDeepStrictEqual } from 'node:util'
import type { Node, Task } from '../store/objects.ts'
import type { Change, Commit, StoreView } from '../store/view.ts'
import type { ServerChange, VirtualServer } from './ports.ts'
import type { TimeSlices } from './time-slices.ts'
import { hasPlane, serversOf } from './wanted-servers.ts'
import type { LinkState, NetworkOptions, NetworkScene } from './wanted-servers.ts'

/** Where the wish comes from. */
export interface DerivationSources {
  readonly store: StoreView
  readonly slices: TimeSlices
  /** This node's tasks as it knows them itself; absent: as the store says. */
  readonly ownTasks?: () => readonly Task[]
  /** Absent: every node has a link. */
  readonly linkTo?: (nodeId: string) => LinkState
}

/** Whose servers, and what the node can do. */
export type DerivationOptions = NetworkOptions &
  Pick<NetworkScene, 'routed' | 'hasVirtualAddresses'>

/** Derives servers by difference. */
export class ServerDerivation {
  readonly #sources: DerivationSources
  readonly #options: DerivationOptions
  readonly #servers = new Map<string, VirtualServer>()
  /** Ids of the servers of each service that has any. */
  readonly #idsOf = new Map<string, readonly string[]>()
  /** Services to derive again. */
  readonly #due = new Set<string>()
  #isAllDue = true
  #areOwnDue = true
  #areLinksDue = false
  /** Own tasks by service, as seen last. */
  #own: ReadonlyMap<string, readonly Task[]> = new Map()
  /** States of the links that a server depends on. */
  readonly #links = new Map<string, LinkState>()

  constructor(sources: DerivationSources, options: DerivationOptions) {
    this.#sources = sources
    this.#options = options
  }

  /** By id. */
  get servers(): ReadonlyMap<string, VirtualServer> {
    return this.#servers
  }

  /** Whether anything of the commit matters here. */
  noteCommit(commit: Commit): boolean {
    if (commit.type === 'restored') {
      this.#isAllDue = true
      return true
    }
    const before = this.#due.size
    for (const change of commit.changes) this.#noteChange(change)
    return this.#isAllDue || this.#due.size > before
  }

  noteOwnTasks(): void {
    this.#areOwnDue = true
  }

  noteLinks(): void {
    this.#areLinksDue = true
  }

  /** Derives what is due; what changed since the last time. */
  async refresh(): Promise<ServerChange> {
    this.#refreshOwn()
    await this.#refreshLinks()
    if (this.#isAllDue) {
      const all = this.#sources.store.list('services').map(({ id }) => id)
      for (const id of [...all, ...this.#idsOf.keys()]) this.#due.add(id)
      this.#isAllDue = false
    }
    const change = { set: [] as VirtualServer[], removed: [] as string[] }
    // What is noted during a pause is taken along.
    for (const id of this.#due) {
      this.#due.delete(id)
      this.#derive(id, change)
      await this.#sources.slices.maybeYield()
    }
    return change
  }

  #noteChange(change: Change): void {
    switch (change.table) {
      case 'services':
        this.#due.add(change.id)
        return
      case 'tasks':
        if (isSameTask(change.before, change.after)) return
        for (const task of [change.before, change.after]) {
          if (task !== undefined) this.#due.add(task.serviceId)
        }
        return
      case 'nodes':
        if (this.#roleOf(change.before) === this.#roleOf(change.after)) return
        this.#noteTasksOn(change.id)
        // To which nodes tunnels lead depends on where this one ends them.
        if (change.id === this.#options.nodeId) this.#isAllDue = true
        return
      case 'networks':
      case 'cluster':
        return
      default:
        change satisfies never
    }
  }

  /** What counts of a node; see `wantedServers`: a node that reads this is up. */
  #roleOf(node: Node | undefined): string {
    if (node === undefined) return 'down'
    if (node.status.state === 'down' && node.id !== this.#options.nodeId) return 'down'
    return hasPlane(node) ? `routed to ${node.advertiseHost}` : 'dialled'
  }

  #noteTasksOn(nodeId: string): void {
    for (const task of this.#sources.store.find('tasks', 'nodeId', nodeId)) {
      this.#due.add(task.serviceId)
    }
    // Of its own the node may have tasks that the store has not, or has no longer.
    if (nodeId === this.#options.nodeId) for (const id of this.#own.keys()) this.#due.add(id)
  }

  #refreshOwn(): void {
    if (!this.#areOwnDue) return
    this.#areOwnDue = false
    const own = Map.groupBy(this.#sources.ownTasks?.() ?? [], ({ serviceId }) => serviceId)
    for (const id of new Set([...own.keys(), ...this.#own.keys()])) {
      if (!areSameTasks(own.get(id) ?? [], this.#own.get(id) ?? [])) this.#due.add(id)
    }
    this.#own = own
  }

  async #refreshLinks(): Promise<void> {
    const { linkTo, slices } = this.#sources
    if (!this.#areLinksDue || linkTo === undefined) return
    this.#areLinksDue = false
    for (const [nodeId, known] of this.#links) {
      const now = linkTo(nodeId)
      if (now !== known) {
        this.#links.set(nodeId, now)
        this.#noteTasksOn(nodeId)
      }
      await slices.maybeYield()
    }
  }

  #linkTo(nodeId: string): LinkState {
    const known = this.#links.get(nodeId)
    if (known !== undefined) return known
    const state = this.#sources.linkTo?.(nodeId) ?? 'direct'
    this.#links.set(nodeId, state)
    return state
  }

  #derive(serviceId: string, change: { set: VirtualServer[]; removed: string[] }): void {
    const { store, ownTasks } = this.#sources
    const service = store.get('services', serviceId)
    const scene = {
      ...this.#options,
      store,
      linkTo: (nodeId: string) => this.#linkTo(nodeId),
      ...(ownTasks === undefined ? {} : { own: this.#own.get(serviceId) ?? [] }),
    }
    const servers = service === undefined ? [] : serversOf(scene, service, this.#options)
    const ids = servers.map(({ id }) => id)
    for (const id of this.#idsOf.get(serviceId) ?? []) {
      if (ids.includes(id)) continue
      this.#servers.delete(id)
      change.removed.push(id)
    }
    if (ids.length === 0) this.#idsOf.delete(serviceId)
    else this.#idsOf.set(serviceId, ids)
    for (const server of servers) {
      if (isDeepStrictEqual(this.#servers.get(server.id), server)) continue
      this.#servers.set(server.id, server)
      change.set.push(server)
    }
  }
}

function areSameTasks(a: readonly Task[], b: readonly Task[]): boolean {
  return a.length === b.length && a.every((task, index) => isSameTask(task, b[index]))
}

/** Whether nothing that servers depend on differs. */
function isSameTask(a: Task | undefined, b: Task | undefined): boolean {
  return (
    a !== undefined &&
    a.id === b?.id &&
    a.serviceId === b.serviceId &&
    a.nodeId === b.nodeId &&
    a.desiredState === b.desiredState &&
    a.status.state === b.status.state &&
    a.status.health === b.status.health &&
    a.address === b.address &&
    isDeepStrictEqual(a.status.ports, b.status.ports) &&
    isDeepStrictEqual(a.networks, b.networks)
  )
}
