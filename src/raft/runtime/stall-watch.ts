/** Notices that nothing moves any more: an abort signal that follows another, and silence. */
import type { Clock, Timer } from '../../base/clock.ts'
import type { SwarmError } from '../../base/errors.ts'

/** When, and with what, a watch aborts by itself. */
export interface StallWatchOptions {
  readonly limitMs: number
  readonly stalled: () => SwarmError
}

/** Watches one piece of work. Aborts with the reason of `parent`, or when it stalls. */
export class StallWatch {
  readonly #clock: Clock
  readonly #options: StallWatchOptions
  readonly #parent: AbortSignal
  readonly #controller = new AbortController()
  readonly #failed = Promise.withResolvers<never>()
  readonly #onAbort = (): void => this.#abort(this.#parent.reason)
  #timer: Timer
  #movedMs: number

  constructor(clock: Clock, parent: AbortSignal, options: StallWatchOptions) {
    this.#clock = clock
    this.#options = options
    this.#parent = parent
    this.#movedMs = clock.monotonicMs()
    this.#failed.promise.catch(() => {}) // Nobody need wait in `orFails` when it happens.
    this.#timer = this.#arm(options.limitMs)
    parent.addEventListener('abort', this.#onAbort, { once: true })
    if (parent.aborted) this.#onAbort()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Something moved. */
  moved(): void {
    this.#movedMs = this.#clock.monotonicMs()
  }

  /** `work`, given up when the watch aborts. @throws the reason */
  orFails<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failed.promise])
  }

  /** The work is over. */
  stop(): void {
    this.#timer.cancel()
    this.#parent.removeEventListener('abort', this.#onAbort)
  }

  #arm(delayMs: number): Timer {
    return this.#clock.after(delayMs, () => {
      const restMs = this.#movedMs + this.#options.limitMs - this.#clock.monotonicMs()
      if (restMs > 0) this.#timer = this.#arm(restMs)
      else this.#abort(this.#options.stalled())
    })
  }

  #abort(reason: unknown): void {
    this.stop()
    this.#failed.reject(reason)
    this.#controller.abort(reason)
  }
}
