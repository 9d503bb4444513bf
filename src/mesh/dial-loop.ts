/**
 * Tries to make a connection until there is one, waiting longer after each failure, with full
 * jitter so that the nodes of a site that comes back do not dial in step. For ever, until stopped.
 *
 * Invariants: at most one attempt at a time, and at most one timer.
 */
import type { Clock, Timer } from '../base/clock.ts'
import type { Random } from '../base/random.ts'
import type { DialSlots } from './dial-slots.ts'

/** Bounds of the wait, milliseconds. */
export interface BackoffTimers {
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
}

/** What a loop tries. */
export interface DialWork {
  /** Whether a connection is still missing; asked before and after each attempt. */
  wanted(): boolean
  /** One attempt; `failures` is how many failed before. Handles every operating error itself. */
  attempt(failures: number): Promise<void>
}

/** What a loop is built from. */
export interface DialLoopComponents {
  readonly clock: Clock
  readonly random: Random
  readonly slots: DialSlots
}

/** One loop of attempts. */
export class DialLoop {
  readonly #components: DialLoopComponents
  readonly #timers: BackoffTimers
  readonly #work: DialWork
  /** Attempts in a row that did not lead to a lasting connection. */
  #failures = 0
  #running = false
  #stopped = false
  #timer: Timer | undefined
  /** When the next attempt begins; only while a timer runs. */
  #dueMs = Number.POSITIVE_INFINITY

  constructor(components: DialLoopComponents, timers: BackoffTimers, work: DialWork) {
    this.#components = components
    this.#timers = timers
    this.#work = work
  }

  /** Attempts after `delayMs`, in place of what was planned. */
  schedule(delayMs: number): void {
    this.#cancelTimer()
    if (this.#stopped || this.#running || !this.#work.wanted()) return
    const { clock } = this.#components
    this.#dueMs = clock.monotonicMs() + delayMs
    this.#timer = clock.after(delayMs, () => {
      this.#cancelTimer()
      // Owned by the loop: the work handles every operating error itself.
      void this.#run()
    })
  }

  /** Attempts after `delayMs` or when it is planned, whichever comes first. */
  atLatest(delayMs: number): void {
    if (this.#components.clock.monotonicMs() + delayMs < this.#dueMs) this.schedule(delayMs)
  }

  /** What stood in the way may be gone: attempts soon, whatever failed before. */
  nudge(): void {
    if (this.#running || !this.#work.wanted()) return
    this.#failures = Math.min(this.#failures, 1)
    this.atLatest(this.#backoffMs())
  }

  /** A connection was lost after it had lasted: attempts after `delayMs`, as if never failed. */
  restart(delayMs: number): void {
    this.#failures = 0
    this.schedule(delayMs)
  }

  /** A connection did not last: attempts after a longer wait. */
  failed(): void {
    if (this.#running || !this.#work.wanted()) return
    this.#failures += 1
    this.schedule(this.#backoffMs())
  }

  /** Nothing is wanted for now. */
  pause(): void {
    this.#cancelTimer()
  }

  stop(): void {
    this.#stopped = true
    this.#cancelTimer()
  }

  async #run(): Promise<void> {
    if (this.#stopped || this.#running || !this.#work.wanted()) return
    this.#running = true
    using slot = await this.#components.slots.take()
    if (slot.granted && this.#work.wanted()) await this.#work.attempt(this.#failures)
    this.#running = false
    this.failed()
  }

  /** Anywhere between the least wait and a bound that doubles. */
  #backoffMs(): number {
    const { backoffMinMs, backoffMaxMs } = this.#timers
    const bound = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(this.#failures, 16))
    const floor = Math.min(backoffMinMs / 5, bound)
    return floor + this.#components.random.integer(Math.max(1, Math.floor(bound - floor)))
  }

  #cancelTimer(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#dueMs = Number.POSITIVE_INFINITY
  }
}
