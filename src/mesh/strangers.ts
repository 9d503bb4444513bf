/**
 * Connections of who is no member. They exist for the join protocol alone, so they are few, short,
 * and may have few streams: a stream can make this process hold a window of 256 KiB that nobody
 * reads, and libp2p's own limit on streams is the same for members and strangers.
 */
import type { Connection } from '@libp2p/interface'
import type { Clock, Timer } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'

/** Strangers connected at the same time; more are refused. */
export const STRANGERS_MAX = 64
/** One to join, one in negotiation, and room for streams that are just being closed. */
export const STRANGER_STREAMS_MAX = 6
/** How often a stranger is looked at. */
export const STRANGER_CHECK_MS = 250
/** A stranger without a stream by then is cut. */
export const STRANGER_IDLE_MS = 5_000
/** Longer than any join takes; a stranger that is still one by then is cut. */
export const STRANGER_MAX_MS = 60_000

/** Who is no stranger. */
export interface Membership {
  isMember(peerId: string): boolean
}

/** The strangers of one host. */
export class Strangers {
  readonly #clock: Clock
  readonly #membership: Membership
  /** By connection id: the timer of the next look. */
  readonly #timers = new Map<string, Timer>()

  constructor(clock: Clock, membership: Membership) {
    this.#clock = clock
    this.#membership = membership
  }

  /** No further stranger is let in. */
  get full(): boolean {
    return this.#timers.size >= STRANGERS_MAX
  }

  opened(connection: Connection): void {
    if (connection.direction === 'outbound' || this.#isMember(connection)) return
    this.#watch(connection, this.#clock.monotonicMs())
  }

  closed(connection: Connection): void {
    this.#timers.get(connection.id)?.cancel()
    this.#timers.delete(connection.id)
  }

  #watch(connection: Connection, sinceMs: number): void {
    const timer = this.#clock.after(STRANGER_CHECK_MS, () => {
      this.#timers.delete(connection.id)
      if (this.#isMember(connection)) return
      const ageMs = this.#clock.monotonicMs() - sinceMs
      const reason = excess(connection, ageMs)
      if (reason === undefined) this.#watch(connection, sinceMs)
      else connection.abort(new SwarmError('PERMISSION_DENIED', `stranger: ${reason}`))
    })
    this.#timers.set(connection.id, timer)
  }

  #isMember(connection: Connection): boolean {
    return this.#membership.isMember(connection.remotePeer.toString())
  }
}

/** Why a stranger is cut now. */
function excess(connection: Connection, ageMs: number): string | undefined {
  const { length } = connection.streams
  if (length > STRANGER_STREAMS_MAX) return `has ${length} streams open`
  if (length === 0 && ageMs >= STRANGER_IDLE_MS) return 'wants nothing'
  return ageMs >= STRANGER_MAX_MS ? 'stays too long' : undefined
}
