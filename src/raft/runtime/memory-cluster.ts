/**
 * A whole group inside one process on a simulated clock, for tests: servers can be cut off, crash
 * and start again on what they had stored. The state machine keeps the list of commands, so any two
 * members can be compared.
 */
import { assert, defined } from '../../base/assert.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import { MemorySnapshotStore } from '../storage/memory-snapshot-store.ts'
import type { LogStore, SnapshotStore } from '../storage/ports.ts'
import { MemoryNetwork } from './memory-transport.ts'
import type { MetricsSink } from './metrics.ts'
import type { RaftOptions } from './options.ts'
import type { CommittedEntry, Configuration, Server, ServerId, StateMachine } from './ports.ts'
import { Raft } from './raft.ts'
import { SimulatedClock } from './simulated-clock.ts'

/** How long `until` waits at most, simulated milliseconds. */
const LIMIT_MS = 60_000

/** Remembers every command in order; answers with how many there are. */
export class ListMachine implements StateMachine<number> {
  commands: string[] = []
  /** Who belongs to the group, as it was told last. */
  members: readonly string[] = []
  restores = 0

  apply(entries: readonly CommittedEntry[]): readonly number[] {
    return entries.map(({ data }) => this.commands.push(new TextDecoder().decode(data)))
  }

  configurationChanged({ servers }: Configuration): void {
    this.members = servers.map(({ id }) => id).toSorted()
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    const view = [...this.commands]
    for (const command of view) yield new TextEncoder().encode(`${command}\n`)
  }

  async restore(source: AsyncIterable<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder()
    let text = ''
    for await (const chunk of source) text += decoder.decode(chunk, { stream: true })
    this.commands = text.split('\n').slice(0, -1)
    this.restores += 1
  }
}

/** One member's place in the group. */
export interface Place extends PlaceStores {
  readonly id: ServerId
  /** `undefined` while it is down. */
  raft: Raft<number> | undefined
  machine: ListMachine
}

/** What a test cluster is made with. */
export interface MemoryClusterOptions {
  readonly raft?: Partial<RaftOptions>
  readonly seed?: number
  /** Real time per simulated time; 0 by default, more where real disks are written. */
  readonly pace?: number
  /** Takes the figures of all members. */
  readonly metrics?: MetricsSink
  /** The stores of a place; in memory by default. */
  readonly stores?: (id: ServerId, clock: SimulatedClock) => PlaceStores
}

/** Where one member keeps its state. */
export interface PlaceStores {
  readonly logStore: LogStore
  readonly snapshotStore: SnapshotStore
}

/** A simulated group. */
export class MemoryCluster implements AsyncDisposable {
  readonly clock: SimulatedClock
  readonly network: MemoryNetwork
  readonly places = new Map<ServerId, Place>()
  readonly #options: MemoryClusterOptions
  #seed: number

  constructor(options: MemoryClusterOptions = {}) {
    this.clock = new SimulatedClock({ pace: options.pace ?? 0 })
    this.network = new MemoryNetwork(this.clock)
    this.#options = options
    this.#seed = options.seed ?? 1
  }

  /** A running group of voters `n1` … `n<count>`, with a leader. */
  static async start(count: number, options: MemoryClusterOptions = {}): Promise<MemoryCluster> {
    const cluster = new MemoryCluster(options)
    const ids = Array.from({ length: count }, (_, position) => `n${position + 1}`)
    const servers = ids.map((id): Server => ({ id, address: `at-${id}`, suffrage: 'voter' }))
    for (const id of ids) await cluster.settled(Raft.bootstrap(cluster.place(id), servers))
    for (const id of ids) await cluster.settled(cluster.up(id))
    await cluster.leader()
    return cluster
  }

  /** The place of `id`; made when new. */
  place(id: ServerId): Place {
    const known = this.places.get(id)
    if (known !== undefined) return known
    const stores = this.#options.stores?.(id, this.clock) ?? {
      logStore: new MemoryLogStore(),
      snapshotStore: new MemorySnapshotStore(),
    }
    const place: Place = { id, ...stores, raft: undefined, machine: new ListMachine() }
    this.places.set(id, place)
    return place
  }

  /** Starts `id` on what is stored at its place. */
  async up(id: ServerId): Promise<Raft<number>> {
    const place = this.place(id)
    assert(place.raft === undefined, `${id} runs already`)
    place.machine = new ListMachine()
    this.#seed += 1
    const random = seededRandom(this.#seed)
    const transport = this.network.transport(id)
    const { clock } = this
    const { logStore, snapshotStore, machine: stateMachine } = place
    const stores = { logStore, snapshotStore }
    const { metrics } = this.#options
    const parts = { ...stores, transport, stateMachine, clock, random, log: silentLogger }
    place.raft = await Raft.open(metrics === undefined ? parts : { ...parts, metrics }, {
      id,
      address: `at-${id}`,
      ...this.#options.raft,
    })
    return place.raft
  }

  /** Ends `id`; the others see its connections closed when `closed` is set. */
  async down(id: ServerId, options: { readonly closed?: boolean } = {}): Promise<void> {
    const place = this.place(id)
    const raft = defined(place.raft, id)
    place.raft = undefined
    if (options.closed === true) this.network.crash(id)
    await raft.shutdown()
  }

  raft(id: ServerId): Raft<number> {
    return defined(this.place(id).raft, id)
  }

  get running(): readonly Raft<number>[] {
    return [...this.places.values()].flatMap(({ raft }) => (raft === undefined ? [] : [raft]))
  }

  /** Lets time pass until `condition` holds. */
  async until(condition: () => boolean, what: string): Promise<void> {
    assert(await this.clock.advanceUntil(condition, LIMIT_MS), `${what} within ${LIMIT_MS} ms`)
  }

  /** Waits for a leader among `ids` (all by default) that all running ones of them know. */
  async leader(ids?: readonly ServerId[]): Promise<Raft<number>> {
    const among = (): readonly Raft<number>[] =>
      this.running.filter(({ id }) => ids === undefined || ids.includes(id))
    const agreed = (): Raft<number> | undefined => {
      const leader = among().find(({ role }) => role === 'leader')
      return among().every((raft) => raft.leader === leader?.id) ? leader : undefined
    }
    await this.until(() => agreed() !== undefined, 'a leader')
    return defined(agreed(), 'leader')
  }

  /** Applies `commands` at `raft`, letting time pass. */
  async apply(raft: Raft<number>, commands: readonly string[]): Promise<void> {
    const all = Promise.all(commands.map((each) => raft.apply(new TextEncoder().encode(each))))
    await this.settled(all)
  }

  /** The outcome of `promise`, letting time pass until there is one. */
  async settled<T>(promise: Promise<T>): Promise<T> {
    let done = false
    const watched = promise.finally(() => {
      done = true
    })
    watched.catch(() => {})
    await this.until(() => done, 'an outcome')
    return watched
  }

  /** Waits until every running member has applied as much as any. */
  async converged(ids?: readonly ServerId[]): Promise<void> {
    const among = this.running.filter(({ id }) => ids === undefined || ids.includes(id))
    await this.until(() => {
      const last = Math.max(...among.map(({ lastIndex }) => lastIndex))
      return among.every(({ appliedIndex }) => appliedIndex === last)
    }, 'convergence')
  }

  /** The commands that `id` has applied. */
  commands(id: ServerId): readonly string[] {
    return this.place(id).machine.commands
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const raft of this.running) await raft.shutdown()
  }
}
