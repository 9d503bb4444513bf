/** A clock that moves only when told; timers fire in order of time, then of starting. */
import { setImmediate } from 'node:timers/promises'
import type { Clock, Timer } from '../../base/clock.ts'

interface Pending {
  readonly atMs: number
  readonly callback: () => void
}

/** A clock for tests. */
export class ManualClock implements Clock {
  #nowMs = 1_000
  readonly #timers = new Set<Pending>()

  monotonicMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return Date.UTC(2026, 0, 1) + this.#nowMs
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer: Pending = { atMs: this.#nowMs + delayMs, callback }
    this.#timers.add(timer)
    return { cancel: () => this.#timers.delete(timer) }
  }

  /** Timers that have not fired. */
  get pending(): number {
    return this.#timers.size
  }

  /** Moves on by `durationMs`, letting promises run after each timer. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs
    for (;;) {
      await setImmediate()
      const next = this.#next()
      if (next === undefined || next.atMs > endMs) break
      this.#timers.delete(next)
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      next.callback()
    }
    this.#nowMs = endMs
  }

  #next(): Pending | undefined {
    let first: Pending | undefined
    for (const timer of this.#timers) {
      if (first === undefined || timer.atMs < first.atMs) first = timer
    }
    return first
  }
}
