/**
 * Fast failover: a leader whose process ended closes its connections, and its followers need not
 * wait for the election timeout. Each forgets the leader and, after a short random rest, asks for
 * pre-votes. Safe: a pre-vote is refused by everyone who still hears the leader, so it takes a
 * quorum that lost it; and with no leader known nobody is inside a lease (raft.md §6.2, target 8).
 */
import type { Clock, Timer } from '../../base/clock.ts'
import type { Random } from '../../base/random.ts'

/** Rest before the first try: time for the others to notice, too. */
const FIRST_REST_MS = 5
/** Random part of each rest: who draws less campaigns first and wins alone. */
const REST_SPREAD_MS = 60
/** Parts of a millisecond in the random part. */
const REST_STEPS_PER_MS = 100
/** Rest before a further try, when the first found no quorum or split the vote. */
const NEXT_REST_MS = 80
/** Tries before the usual election timeout is left to do it. */
const TRIES_MAX = 4

/** What fast failover asks of its owner. */
export interface FailoverHooks {
  /** Whether this node has no leader and leads not. */
  readonly isLeaderless: () => boolean
  readonly campaign: () => void
}

/** Campaigns soon after the leader's end was seen. */
export class Failover {
  readonly #components: { readonly clock: Clock; readonly random: Random }
  readonly #hooks: FailoverHooks
  #timer: Timer | undefined

  constructor(
    components: { readonly clock: Clock; readonly random: Random },
    hooks: FailoverHooks,
  ) {
    this.#components = components
    this.#hooks = hooks
  }

  /** The leader is gone and forgotten. */
  start(): void {
    this.#arm(FIRST_REST_MS, TRIES_MAX)
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #arm(restMs: number, tries: number): void {
    this.stop()
    if (tries === 0) return
    const { clock, random } = this.#components
    const spreadMs = random.integer(REST_SPREAD_MS * REST_STEPS_PER_MS) / REST_STEPS_PER_MS
    this.#timer = clock.after(restMs + spreadMs, () => {
      this.#timer = undefined
      if (!this.#hooks.isLeaderless()) return
      this.#hooks.campaign()
      this.#arm(NEXT_REST_MS, tries - 1)
    })
  }
}
