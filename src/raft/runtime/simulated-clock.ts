/**
 * A clock that only moves when told to, for tests and simulations: timers fire in order of their
 * due time (then of their making), and everything that a timer set off has run before the next one
 * fires. With a `pace`, simulated time costs that fraction of real time: for tests with real disks.
 */
import { setImmediate as turn, setTimeout as rest } from 'node:timers/promises'
import type { Clock, Timer } from '../../base/clock.ts'

interface Pending {
  readonly dueMs: number
  readonly serial: number
  readonly callback: () => void
}

/** A condition is looked at least so often while no timer is due, simulated milliseconds. */
const LOOK_EVERY_MS = 100

/** `Clock` under the control of a test. */
export class SimulatedClock implements Clock {
  #nowMs = 0
  #serial = 0
  readonly #pending = new Set<Pending>()
  readonly #pace: number

  constructor(options: { readonly pace?: number } = {}) {
    this.#pace = options.pace ?? 0
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  wallMs(): number {
    return this.#nowMs
  }

  after(delayMs: number, callback: () => void): Timer {
    this.#serial += 1
    const pending = { dueMs: this.#nowMs + delayMs, serial: this.#serial, callback }
    this.#pending.add(pending)
    return { cancel: () => this.#pending.delete(pending) }
  }

  /** Timers that have not fired. */
  get pendingTimers(): number {
    return this.#pending.size
  }

  /** Lets `durationMs` pass, timer by timer. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs
    await turn()
    for (let next = this.#next(endMs); next !== undefined; next = this.#next(endMs)) {
      await this.#pass(next.dueMs)
      if (!this.#pending.delete(next)) continue
      next.callback()
      await turn()
    }
    await this.#pass(endMs)
  }

  /** Time passes without any timer firing, as in a process that was stopped. */
  stall(durationMs: number): void {
    this.#nowMs += durationMs
  }

  /** Lets time pass until `condition` holds, at most `limitMs`; returns whether it does. */
  async advanceUntil(condition: () => boolean, limitMs: number): Promise<boolean> {
    const endMs = this.#nowMs + limitMs
    await turn()
    while (!condition() && this.#nowMs < endMs) {
      const next = this.#next(endMs)
      const dueMs = Math.min(next?.dueMs ?? endMs, endMs, this.#nowMs + LOOK_EVERY_MS)
      await this.advance(dueMs - this.#nowMs)
    }
    return condition()
  }

  async #pass(untilMs: number): Promise<void> {
    const durationMs = Math.max(0, untilMs - this.#nowMs)
    if (this.#pace > 0 && durationMs > 0) await rest(durationMs * this.#pace)
    this.#nowMs += durationMs
  }

  #next(endMs: number): Pending | undefined {
    let first: Pending | undefined
    for (const each of this.#pending) {
      if (each.dueMs > endMs) continue
      if (first === undefined || each.dueMs < first.dueMs) first = each
    }
    return first
  }
}
