/**
 * Runs one piece of asynchronous work at a time, always towards the latest wish: wishes that come
 * while work runs replace one another. For state that follows another state (leadership → loops).
 */

/** Carries out the latest wish; earlier ones that did not start are dropped. */
export class LatestTask<T> {
  readonly #carryOut: (wish: T) => Promise<void>
  readonly #onFailure: (error: unknown) => void
  #next: { readonly wish: T } | undefined
  #running: Promise<void> | undefined

  constructor(carryOut: (wish: T) => Promise<void>, onFailure: (error: unknown) => void) {
    this.#carryOut = carryOut
    this.#onFailure = onFailure
  }

  /** Asks for `wish`; returns at once. */
  want(wish: T): void {
    this.#next = { wish }
    // Not in this turn: a wish that the work itself makes must find it running.
    this.#running ??= Promise.resolve().then(() => this.#run())
  }

  /** Resolves when nothing is wanted any more. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  async #run(): Promise<void> {
    while (this.#next !== undefined) {
      const { wish } = this.#next
      this.#next = undefined
      try {
        await this.#carryOut(wish)
      } catch (error) {
        this.#onFailure(error)
      }
    }
    this.#running = undefined
  }
}
