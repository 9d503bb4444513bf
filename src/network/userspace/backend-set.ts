/**
 * The backends of one virtual server, and which is next.
 *
 * Invariants: a backend that `update` leaves out is never picked again, and everything that uses it
 * is aborted inside that very call; a backend of weight 0 is not picked but keeps its users. A
 * backend that could not be dialled is benched for a short time: avoided while another can be had,
 * tried all the same when it is the last, so that one failure never closes a port. Source: nginx's
 * smooth weighted round robin (commit 52327e0627), IPVS `rr` and `wlc`.
 */
import { assert } from '../../base/assert.ts'
import type { Clock } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Backend } from '../ports.ts'

/** How the next backend is chosen. */
export type Scheduling = 'round-robin' | 'least-connections'

/**
 * Range of the random rank that breaks ties, so that nodes do not all begin with the same backend.
 */
const RANK_RANGE = 2 ** 32

/** A backend in the set. */
export interface Slot {
  readonly key: string
  /** As told last: the weight may have changed. */
  readonly backend: Backend
  /** What uses it now, a dial or a connection; aborted when the backend is dropped. */
  readonly users: Set<AbortController>
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

  constructor(
    components: { readonly clock: Clock; readonly random: Random },
    options: { readonly scheduling: Scheduling; readonly benchMs: number },
  ) {
    this.#components = components
    this.#options = options
  }

  /** Makes the set equal `backends`; aborts the users of those left out before it returns. */
  update(backends: readonly Backend[]): void {
    const known = new Map(this.#slots.map((slot) => [slot.key, slot]))
    const wanted = new Map(backends.map((backend) => [backendKey(backend), backend]))
    assert(wanted.size === backends.length, 'a backend is listed twice')
    this.#slots = [...wanted]
      .map(([key, backend]) => known.get(key) ?? this.#newSlot(key, backend))
      .toSorted((a, b) => a.rank - b.rank)
    for (const slot of this.#slots) slot.backend = wanted.get(slot.key) ?? slot.backend
    for (const slot of known.values()) if (!wanted.has(slot.key)) dropUsers(slot)
  }

  /** The backend for the next connection, none of `tried`; undefined when there is none. */
  pick(tried: ReadonlySet<string>): Slot | undefined {
    const nowMs = this.#components.clock.monotonicMs()
    const open = this.#slots.filter((slot) => slot.backend.weight > 0 && !tried.has(slot.key))
    const fit = open.filter((slot) => slot.benchedUntilMs <= nowMs)
    const candidates = fit.length > 0 ? fit : open
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
