/**
 * When each member was last heard, and, on the leader, who was not heard for an election timeout.
 * Source: hashicorp/raft `LastContact`, `FailedHeartbeatObservation`.
 */
import type { Clock } from '../../base/clock.ts'
import type { ServerId } from './ports.ts'

/** What is told of a member's silence. */
export interface ContactHooks {
  readonly onLost: (peer: ServerId, lastContactMs: number) => void
  readonly onBack: (peer: ServerId) => void
}

/** Contacts of one member. */
export class PeerContacts {
  readonly #clock: Clock
  readonly #hooks: ContactHooks
  /** Monotonic milliseconds by member. */
  readonly #heardMs = new Map<ServerId, number>()
  readonly #lost = new Set<ServerId>()
  /** Since when this member leads; silence counts from then on. */
  #sinceMs: number | undefined

  constructor(clock: Clock, hooks: ContactHooks) {
    this.#clock = clock
    this.#hooks = hooks
  }

  /** Something came from `peer`. */
  heard(peer: ServerId): void {
    this.#heardMs.set(peer, this.#clock.monotonicMs())
    if (this.#lost.size > 0 && this.#lost.delete(peer)) this.#hooks.onBack(peer)
  }

  /** When `peer` was last heard, monotonic milliseconds. */
  lastMs(peer: ServerId): number | undefined {
    return this.#heardMs.get(peer)
  }

  /** This member begins to lead, or does so no more. */
  onRole(leads: boolean): void {
    if (leads === (this.#sinceMs !== undefined)) return
    this.#sinceMs = leads ? this.#clock.monotonicMs() : undefined
    this.#lost.clear()
  }

  /** The leader looks who of `others` was silent for `limitMs`. */
  look(others: readonly ServerId[], limitMs: number): void {
    const sinceMs = this.#sinceMs
    if (sinceMs === undefined) return
    const nowMs = this.#clock.monotonicMs()
    for (const peer of others) {
      const lastMs = Math.max(sinceMs, this.#heardMs.get(peer) ?? sinceMs)
      if (nowMs - lastMs < limitMs || this.#lost.has(peer)) continue
      this.#lost.add(peer)
      this.#hooks.onLost(peer, lastMs)
    }
  }

  /** Forgets who is no member any more. */
  keep(members: readonly ServerId[]): void {
    const kept = new Set(members)
    for (const peer of this.#heardMs.keys()) if (!kept.has(peer)) this.#heardMs.delete(peer)
    for (const peer of this.#lost) if (!kept.has(peer)) this.#lost.delete(peer)
  }
}
