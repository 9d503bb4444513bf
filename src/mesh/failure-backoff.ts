/**
 * Makes an address that keeps failing wait longer each time. A few failures are free, since people
 * mistype tokens; what is remembered is bounded and forgotten after a while.
 */
import type { Clock } from '../base/clock.ts'

/** Failures before any wait. */
export const FREE_FAILURES = 10
/** The first wait, which doubles with each further failure up to `WAIT_MAX_MS`. */
export const WAIT_MIN_MS = 1_000
export const WAIT_MAX_MS = 60_000
/** An address without a failure for so long is forgotten. */
export const FORGET_AFTER_MS = 120_000
/** Addresses remembered; the one that failed longest ago makes room. */
export const SOURCES_MAX = 1_024

/** Counts failures by source address. */
export class FailureBackoff {
  readonly #clock: Clock
  /** Insertion order is the order of the last failure. */
  readonly #failures = new Map<string, { readonly count: number; readonly lastMs: number }>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** How long `source` has to wait from now on; 0 = it may try. */
  waitMs(source: string): number {
    const failure = this.#failures.get(source)
    if (failure === undefined || failure.count <= FREE_FAILURES) return 0
    const waitMs = Math.min(WAIT_MAX_MS, WAIT_MIN_MS * 2 ** (failure.count - FREE_FAILURES - 1))
    return Math.max(0, failure.lastMs + waitMs - this.#clock.monotonicMs())
  }

  failed(source: string): void {
    const now = this.#clock.monotonicMs()
    const before = this.#failures.get(source)
    const recent = before !== undefined && now - before.lastMs < FORGET_AFTER_MS
    this.#failures.delete(source)
    this.#failures.set(source, { count: recent ? before.count + 1 : 1, lastMs: now })
    for (const oldest of this.#failures.keys()) {
      if (this.#failures.size <= SOURCES_MAX) return
      this.#failures.delete(oldest)
    }
  }

  forget(source: string): void {
    this.#failures.delete(source)
  }
}
