/**
 * The monotonic clock of one process: it may run fast or slow and may leap forward, and it goes on
 * while the process is stopped or busy.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import type { EventLoop } from './event-loop.ts'
import type { Host } from './event.ts'

/** `Clock` of a host. */
export class NodeClock implements Clock {
  readonly #loop: EventLoop
  readonly #host: Host
  /** Local milliseconds per virtual millisecond. */
  #rate: number
  #sinceMs: number
  #baseMs: number
  /** The wall clock leaps alone. */
  #wallAheadMs = 0

  constructor(
    loop: EventLoop,
    host: Host,
    start: { readonly rate: number; readonly atMs: number },
  ) {
    this.#loop = loop
    this.#host = host
    this.#rate = start.rate
    this.#sinceMs = loop.nowMs
    this.#baseMs = start.atMs
  }

  monotonicMs(): number {
    const nowMs = Math.max(this.#loop.nowMs, this.#host.busyUntilMs)
    return this.#baseMs + (nowMs - this.#sinceMs) * this.#rate
  }

  wallMs(): number {
    return this.monotonicMs() + this.#wallAheadMs
  }

  after(delayMs: number, callback: () => void): Timer {
    const busyMs = Math.max(0, this.#host.busyUntilMs - this.#loop.nowMs)
    const waitMs = busyMs + Math.max(0, delayMs) / this.#rate
    return this.#loop.after(waitMs, 'timer', { host: this.#host, run: callback })
  }

  /** From now on the clock runs at `rate`. */
  setRate(rate: number): void {
    this.#baseMs = this.monotonicMs()
    this.#sinceMs = Math.max(this.#loop.nowMs, this.#host.busyUntilMs)
    this.#rate = rate
  }

  /** The wall clock is set, forward or back. */
  leapWall(durationMs: number): void {
    this.#wallAheadMs += durationMs
  }

  /** The clock leaps; timers that are set keep their distance. */
  leap(durationMs: number): void {
    this.#baseMs += durationMs
  }
}
