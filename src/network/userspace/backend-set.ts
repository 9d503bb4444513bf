/**
 * The backends of one virtual server, and which is next.
 *
 * Invariants: a backend that `update` leaves out is never picked again, and everything that uses it
 * is aborted inside that very call; a backend of weight 0 is not picked but keeps its users. A
 * backend that could not be dialled is benched for a short time: avoided while another can be had,
 * tried all the same when it is the last, so that one failure never closes a port. With affinity a
 * client has the backend that every node gives it (`affinity.ts`), and while that cannot be dialled
 * the one of the next slot: the same for all of its connections. Source: nginx's smooth weighted
 * round robin (commit 52327e0627), IPVS `rr` and `wlc`.
 */
import { assert, at } from '../../base/assert.ts'
import type { Clock } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'
import { SwarmError } from '../../base/errors.ts'
import { affinityTable, clientSlot } from '../affinity.ts'
import type { Backend, VirtualServer } from '../ports.ts'

/** How the next backend is chosen. */
export type Scheduling = 'round-robin' | 'least-connections'

/**
 * Range of the random rank that breaks ties, so that nodes do not all begin with the same backend.
 */
const RANK_RANGE = 2 ** 32

/** Stands for the address of a client that is gone; who serves it does not matter. */
const NO_ADDRESS = '0.0.0.0'

/** A client; its address is asked for only where it matters, because that is a system call. */
export interface Client {
  /** Undefined when it is gone already. */
  readonly remoteAddress?: string | undefined
}

/** What uses a backend: a dial, a connection, a session. */
export interface SlotUser {
  /** The backend is dropped. */
  abort(reason: Error): void
}

/** A backend in the set. */
export interface Slot {
  readonly key: string
  /** As told last: the weight may have changed. */
  readonly backend: Backend
  /** What uses it now; aborted when the backend is dropped. */
  readonly users: Set<SlotUser>
}

interface SlotState extends Slot {
  backend: Backend
  /** Smooth round robin's running value; the highest is next. */
  current: number
  readonly rank: number
  /** Monotonic milliseconds. */
  benchedUntilMs: number
}

/** The backends of one virtual server. */
export class BackendSet {
  readonly #components: { readonly clock: Clock; readonly random: Random }
  readonly #options: { readonly scheduling: Scheduling; readonly benchMs: number }
  /** In order of rank. */
  #slots: SlotState[] = []
  /** With affinity: whose clients belong to whom. */
  #affinity: Affinity | undefined

  constructor(
    components: { readonly clock: Clock; readonly random: Random },
    options: { readonly scheduling: Scheduling; readonly benchMs: number },
  ) {
    this.#components = components
    this.#options = options
  }

  /**
   * Makes the set that of the server; aborts the users of backends left out before it returns.
   */
  update({ backends, scheduler }: Pick<VirtualServer, 'backends' | 'scheduler'>): void {
    const known = new Map(this.#slots.map((slot) => [slot.key, slot]))
    const wanted = new Map(backends.map((backend) => [backendKey(backend), backend]))
    assert(wanted.size === backends.length, 'a backend is listed twice')
    this.#slots = [...wanted]
      .map(([key, backend]) => known.get(key) ?? this.#newSlot(key, backend))
      .toSorted((a, b) => a.rank - b.rank)
    for (const slot of this.#slots) slot.backend = wanted.get(slot.key) ?? slot.backend
    this.#affinity = scheduler === 'mh' ? affinityOf(this.#slots, this.#affinity) : undefined
    // Last: a user that is dropped may pick another.
    for (const slot of known.values()) if (!wanted.has(slot.key)) dropUsers(slot)
  }

  /**
   * The backend for the next connection of a client, none of `tried`; undefined when there is none.
   */
  pick(tried: ReadonlySet<string>, client: Client): Slot | undefined {
    const nowMs = this.#components.clock.monotonicMs()
    const open = this.#slots.filter((slot) => slot.backend.weight > 0 && !tried.has(slot.key))
    const fit = open.filter((slot) => slot.benchedUntilMs <= nowMs)
    const candidates = fit.length > 0 ? fit : open
    if (this.#affinity !== undefined) return affine(this.#affinity, candidates, client)
    const narrowed =
      this.#options.scheduling === 'least-connections' ? leastLoaded(candidates) : candidates
    return nextInTurn(narrowed)
  }

  /** Avoids a backend for a short time, because it could not be dialled. */
  bench(slot: Slot): void {
    const state = this.#slots.find((candidate) => candidate === slot)
    if (state === undefined) return
    state.benchedUntilMs = this.#components.clock.monotonicMs() + this.#options.benchMs
  }

  #newSlot(key: string, backend: Backend): SlotState {
    const rank = this.#components.random.integer(RANK_RANGE)
    return { key, backend, users: new Set(), current: 0, rank, benchedUntilMs: -Infinity }
  }
}

/** Whose clients belong to whom. */
interface Affinity {
  /** Ids of the tasks that serve. */
  readonly names: readonly string[]
  /** For each slot of a client's hash the index of a name. */
  readonly table: readonly number[]
}

/** What is known, if the same tasks serve. */
function affinityOf(slots: readonly SlotState[], known: Affinity | undefined): Affinity {
  const serving = slots.filter(({ backend }) => backend.weight > 0)
  const names = serving.map(({ backend }) => backend.taskId).toSorted()
  if (known !== undefined && names.join(' ') === known.names.join(' ')) return known
  return { names, table: names.length === 0 ? [] : affinityTable(names) }
}

/** The client's own backend; when it is no candidate, the first one behind its slot that is. */
function affine(
  { names, table }: Affinity,
  candidates: readonly SlotState[],
  { remoteAddress = NO_ADDRESS }: Client,
): SlotState | undefined {
  if (candidates.length === 0) return undefined
  const byName = new Map(candidates.map((slot) => [slot.backend.taskId, slot]))
  const first = clientSlot(remoteAddress, table.length)
  for (let step = 0; step < table.length; step += 1) {
    const found = byName.get(at(names, at(table, (first + step) % table.length)))
    if (found !== undefined) return found
  }
  return undefined
}

/** A task that moved to another port is another backend. */
function backendKey(backend: Backend): string {
  return `${backend.taskId} ${backend.address}:${backend.port}`
}

function dropUsers(slot: Slot): void {
  const { taskId } = slot.backend
  const reason = new SwarmError('ABORTED', `task ${taskId}: is no longer a backend`)
  for (const user of slot.users) user.abort(reason)
}

function leastLoaded(slots: readonly SlotState[]): readonly SlotState[] {
  const load = (slot: SlotState): number => slot.users.size / slot.backend.weight
  const least = Math.min(...slots.map((slot) => load(slot)))
  return slots.filter((slot) => load(slot) === least)
}

/** One step of smooth weighted round robin. */
function nextInTurn(slots: readonly SlotState[]): SlotState | undefined {
  let total = 0
  let best: SlotState | undefined
  for (const slot of slots) {
    slot.current += slot.backend.weight
    total += slot.backend.weight
    if (best === undefined || slot.current > best.current) best = slot
  }
  if (best !== undefined) best.current -= total
  return best
}
