/**
 * Many logs as one, in the order in which their records come, as docker shows them: order across
 * nodes would need clocks that agree. Sources may be added while it is read. At most
 * `MERGED_RECORDS_MAX` records wait for the reader (and one a source); then the sources wait.
 */

/** Records that wait for the reader before its sources are held up. */
export const MERGED_RECORDS_MAX = 64

/** A bounded merge of asynchronous sources, for one reader. */
export class LogMerge<T> {
  readonly #records: T[] = []
  readonly #pumps = new Set<Promise<void>>()
  /** Sources that wait until there is room. */
  #waiting: (() => void)[] = []
  #wakeReader: (() => void) | undefined
  /** No more sources will be added. */
  #sealed = false
  /** The reader has gone. */
  #stopped = false
  #failure: { readonly error: unknown } | undefined

  /** Reads `source` too. Its error ends the merge for the reader. */
  add(source: AsyncIterable<T>): void {
    const pump = this.#pump(source).finally(() => {
      this.#pumps.delete(pump)
      this.#wake()
    })
    this.#pumps.add(pump)
  }

  /** Sources not yet at their end. */
  get active(): number {
    return this.#pumps.size
  }

  /** The merge ends when the sources that it has now have ended. */
  seal(): void {
    this.#sealed = true
    this.#wake()
  }

  /** The merge ends for its reader with `error`. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#wake()
  }

  /**
   * All records.
   * @yields them in the order in which they come
   * @throws what a source threw
   */
  async *read(): AsyncGenerator<T> {
    try {
      for (;;) {
        const record = this.#records.shift()
        if (record !== undefined) {
          if (this.#records.length < MERGED_RECORDS_MAX) this.#wakeSources()
          yield record
        } else if (this.#failure !== undefined) {
          throw this.#failure.error
        } else if (this.#sealed && this.#pumps.size === 0) {
          return
        } else {
          await new Promise<void>((resolve) => (this.#wakeReader = resolve))
        }
      }
    } finally {
      this.#stopped = true
      this.#wakeSources()
    }
  }

  /** Resolves when no source is being read; they must have been withdrawn. */
  async settled(): Promise<void> {
    await Promise.all(this.#pumps)
  }

  async #pump(source: AsyncIterable<T>): Promise<void> {
    try {
      for await (const record of source) {
        if (this.#stopped) return
        this.#records.push(record)
        this.#wake()
        while (this.#mustWait()) {
          await new Promise<void>((resolve) => this.#waiting.push(resolve))
        }
      }
    } catch (error) {
      this.fail(error)
    }
  }

  #mustWait(): boolean {
    return !this.#stopped && this.#records.length >= MERGED_RECORDS_MAX
  }

  #wake(): void {
    this.#wakeReader?.()
    this.#wakeReader = undefined
  }

  #wakeSources(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }
}
