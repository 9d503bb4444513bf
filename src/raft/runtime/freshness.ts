/**
 * How old the state of this member may be, proved and not guessed, for bounded reads.
 *
 * A question for a read index that was asked at `t` and answered `i` proves that every write
 * acknowledged to anybody before `t` stands at `i` or before (Ongaro §6.4: the leader proves with a
 * quorum, after it was asked, that it leads). So a state that has applied `i` is at most `now - t`
 * old, however long the answer took.
 *
 * - Both times are read from this member's monotonic clock, before the question left: nothing is
 *   assumed of other clocks, of delays, or of leases.
 * - To have heard a leader lately is no proof: its message may be late, its leader deposed, and a
 *   heartbeat names no more than its receiver is known to hold.
 * - Limit: where the monotonic clock stands still while the machine sleeps, or runs slow, the state
 *   is older by so much.
 *
 * While bounded reads are made, questions are renewed in the background (`isDue`), so that they are
 * answered locally; a member that makes none asks nothing.
 */
import type { Clock } from '../../base/clock.ts'
import type { Index } from '../core/entry.ts'

/** Answers that wait to be applied; later ones are passed over until one of these is. */
const WAITING_MAX = 64
/** A question is renewed when the last proof has used up this part of the bound. */
const RENEWAL_PART = 0.5
/** For so long after the last bounded read proofs are renewed, milliseconds. */
export const BOUNDED_READS_REST_MS = 10_000

interface Answer {
  readonly askedAtMs: number
  readonly index: Index
}

/** What this member can prove of its age. */
export class Freshness {
  readonly #clock: Clock
  /** None is both older than another and of no smaller index. */
  #waiting: Answer[] = []
  /** All that was acknowledged before this moment is applied here. */
  #provenMs = Number.NEGATIVE_INFINITY
  #wanted = { boundMs: 0, untilMs: Number.NEGATIVE_INFINITY }

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A question asked at `askedAtMs` was answered `index`. */
  note(askedAtMs: number, index: Index): void {
    const isUseless = this.#waiting.some((one) => one.askedAtMs >= askedAtMs && one.index <= index)
    if (isUseless) return
    this.#waiting = this.#waiting.filter((one) => one.askedAtMs > askedAtMs || one.index < index)
    if (this.#waiting.length < WAITING_MAX) this.#waiting.push({ askedAtMs, index })
  }

  /** How old the state may be that has applied `appliedIndex`, milliseconds; perhaps infinite. */
  ageMs(appliedIndex: Index): number {
    const isApplied = ({ index }: Answer): boolean => index <= appliedIndex
    for (const answer of this.#waiting) {
      if (isApplied(answer)) this.#provenMs = Math.max(this.#provenMs, answer.askedAtMs)
    }
    this.#waiting = this.#waiting.filter((answer) => !isApplied(answer))
    return this.#clock.monotonicMs() - this.#provenMs
  }

  /** Somebody reads with this bound. */
  want(boundMs: number): void {
    const nowMs = this.#clock.monotonicMs()
    const isWanted = nowMs < this.#wanted.untilMs
    const least = isWanted ? Math.min(boundMs, this.#wanted.boundMs) : boundMs
    this.#wanted = { boundMs: least, untilMs: nowMs + BOUNDED_READS_REST_MS }
  }

  /** Whether a question should be asked now. */
  isDue(appliedIndex: Index): boolean {
    if (this.#clock.monotonicMs() >= this.#wanted.untilMs) return false
    return this.ageMs(appliedIndex) > this.#wanted.boundMs * RENEWAL_PART
  }
}
