/**
 * Ticks of the core from the monotonic clock. However late the timer fires (a stalled event loop, a
 * stopped process), it is ONE tick: several at once would let a follower campaign before it has
 * read the heartbeats that wait in its sockets, and a leader count its lease down unheard.
 * Lateness of less than a tick is made up, so that the mean interval is right.
 */
import type { Clock, Timer } from '../../base/clock.ts'

/** Calls `onTick` about every `tickMs`. */
export class Ticker {
  readonly #clock: Clock
  readonly #tickMs: number
  readonly #onTick: () => void
  #dueMs = 0
  #timer: Timer | undefined

  constructor(clock: Clock, tickMs: number, onTick: () => void) {
    this.#clock = clock
    this.#tickMs = tickMs
    this.#onTick = onTick
  }

  start(): void {
    this.#dueMs = this.#clock.monotonicMs() + this.#tickMs
    this.#arm()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #arm(): void {
    const restMs = Math.max(0, this.#dueMs - this.#clock.monotonicMs())
    this.#timer = this.#clock.after(restMs, () => {
      const lateMs = this.#clock.monotonicMs() - this.#dueMs
      const previousMs = lateMs < this.#tickMs ? this.#dueMs : this.#dueMs + lateMs
      this.#dueMs = previousMs + this.#tickMs
      this.#arm()
      this.#onTick()
    })
  }
}
