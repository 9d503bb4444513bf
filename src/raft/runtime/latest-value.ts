/**
 * A value that changes, read as a stream: a slow reader misses intermediate values, never the last.
 */
export class LatestValue<T> {
  /** The value that the reader has not had yet. */
  #unread: { readonly value: T } | undefined
  #wake: (() => void) | undefined

  constructor(value: T) {
    this.#unread = { value }
  }

  set(value: T): void {
    this.#unread = { value }
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
      while (!isAborted(signal)) {
        const unread = this.#unread
        if (unread === undefined) await this.#change()
        else {
          this.#unread = undefined
          yield unread.value
        }
      }
    } finally {
      signal?.removeEventListener('abort', onAbort)
      release()
    }
  }

  #change(): Promise<void> {
    const woken = Promise.withResolvers<void>()
    this.#wake = woken.resolve
    return woken.promise
  }
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true
}
