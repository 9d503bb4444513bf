/**
 * What several owners say of the same keys; each owner's part is replaced as a whole.
 *
 * Invariant: the claims of a key are in order of their owners' ids, whatever came first.
 */

/** What one owner says of a key. */
interface Claim<T> {
  readonly owner: string
  readonly value: T
}

/** Claims by key. */
export class Claims<T> {
  readonly #claims = new Map<string, readonly Claim<T>[]>()
  /** What each owner says. */
  readonly #parts = new Map<string, ReadonlyMap<string, T>>()

  /** Ids of those who say anything. */
  owners(): IterableIterator<string> {
    return this.#parts.keys()
  }

  /** What is said of a key, in order of the owners' ids. */
  of(key: string): readonly T[] {
    return (this.#claims.get(key) ?? []).map(({ value }) => value)
  }

  /** From now on the owner says this and nothing else. */
  replace(owner: string, part: ReadonlyMap<string, T>): void {
    for (const key of this.#parts.get(owner)?.keys() ?? []) {
      if (!part.has(key)) this.#put(key, this.#others(key, owner))
    }
    for (const [key, value] of part) {
      const claims = [...this.#others(key, owner), { owner, value }]
      if (claims.length > 1) claims.sort((a, b) => (a.owner < b.owner ? -1 : 1))
      this.#put(key, claims)
    }
    if (part.size === 0) this.#parts.delete(owner)
    else this.#parts.set(owner, part)
  }

  #others(key: string, owner: string): readonly Claim<T>[] {
    return (this.#claims.get(key) ?? []).filter((claim) => claim.owner !== owner)
  }

  #put(key: string, claims: readonly Claim<T>[]): void {
    if (claims.length === 0) this.#claims.delete(key)
    else this.#claims.set(key, claims)
  }
}
