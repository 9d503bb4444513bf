/**
 * Keeps garbage collection and work that brings content in apart: blobs that have just arrived are
 * referenced by nothing yet, and must not be collected.
 *
 * Many may bring content in (`shared`); a collection (`exclusive`) waits until none does, and new
 * ones wait for a collection that has begun. A waiting collection does not hold new work up.
 */

/** Readers and one writer; readers have priority. */
export class CollectionLock {
  #sharing = 0
  #isExclusive = false
  /** Wakes everyone who waits; they look again. */
  #waiters: (() => void)[] = []

  /** Runs `work` while nothing is collected. */
  async shared<T>(work: () => Promise<T>): Promise<T> {
    while (this.#isExclusive) await this.#changed()
    this.#sharing++
    try {
      return await work()
    } finally {
      this.#sharing--
      this.#wake()
    }
  }

  /** Runs `work` while nothing is brought in. */
  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    while (this.#isExclusive || this.#sharing > 0) await this.#changed()
    this.#isExclusive = true
    try {
      return await work()
    } finally {
      this.#isExclusive = false
      this.#wake()
    }
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }
}
