/** A value that changes, read as a stream: a slow reader misses intermediate values, never the last. */
export class LatestValue<T> {
  #value: T
  #isNew = true
  #wake: (() => void) | undefined

  constructor(value: T) {
    this.#value = value
  }

  set(value: T): void {
    this.#value = value
    this.#isNew = true
    this.#wake?.()
  }

  /**
   * For one reader: the value now and after each change, until `signal` aborts.
   * @yields the latest value
   */
  async *iterate(release: () => void, signal?: AbortSignal): AsyncGenerator<T> {
    const onAbort = (): void => this.#wake?.()
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      while (signal?.aborted !== true) {
        if (this.#isNew) {
          this.#isNew = false
          yield this.#value
          continue
        }
        const woken = Promise.withResolvers<void>()
        this.#wake = woken.resolve
        await woken.promise
      }
    } finally {
      signal?.removeEventListener('abort', onAbort)
      release()
    }
  }
}
