/**
 * One table of the store: frozen objects by id, with secondary indexes. Lists come in order of id
 * on every replica, whatever the order of writing was.
 */
import type { StoredObject } from './objects.ts'

/**
 * A list of which less than this part changed is patched: that costs a copy, not a comparison of
 * all, so that who reads after each write of a large table is not slow.
 */
const PATCHED_PART_MAX = 1 / 32

/** Finds an object's key in one index. */
export type KeyOf<T> = (object: T) => string

/** Objects of one type. */
export class Table<T extends StoredObject> {
  #objects = new Map<string, T>()
  readonly #keys: Readonly<Record<string, KeyOf<T>>>
  /** Index name → key → ids. */
  readonly #indexes = new Map<string, Map<string, Set<string>>>()
  /** `#objects` in order of id, but for those in `#stale`; undefined when it must be made anew. */
  #sorted: readonly T[] | undefined
  /** Ids that changed since `#sorted` was made; at most {@link PATCHED_PART_MAX} of it. */
  readonly #stale = new Set<string>()

  constructor(keys: Readonly<Record<string, KeyOf<T>>>) {
    this.#keys = keys
    for (const name of Object.keys(keys)) this.#indexes.set(name, new Map())
  }

  get(id: string): T | undefined {
    return this.#objects.get(id)
  }

  /** All objects in order of id; the list is shared and must not be changed. */
  all(): readonly T[] {
    this.#sorted ??= [...this.#objects.values()].toSorted(byId)
    if (this.#stale.size > 0) this.#sorted = this.#patched(this.#sorted)
    this.#stale.clear()
    return this.#sorted
  }

  /** Objects whose key in `index` is `key`, in order of id. */
  find(index: string, key: string): T[] {
    const ids = this.#indexes.get(index)?.get(key)
    if (ids === undefined) return []
    const found: T[] = []
    for (const id of ids) {
      const object = this.#objects.get(id)
      if (object !== undefined) found.push(object)
    }
    return found.toSorted(byId)
  }

  put(object: T): void {
    const before = this.#objects.get(object.id)
    if (before !== undefined) this.#unindex(before)
    this.#objects.set(object.id, object)
    for (const [name, keyOf] of Object.entries(this.#keys)) {
      const index = this.#indexes.get(name)
      const key = keyOf(object)
      const ids = index?.get(key)
      if (ids === undefined) index?.set(key, new Set([object.id]))
      else ids.add(object.id)
    }
    this.#note(object.id)
  }

  remove(id: string): void {
    const before = this.#objects.get(id)
    if (before === undefined) return
    this.#unindex(before)
    this.#objects.delete(id)
    this.#note(id)
  }

  clear(): void {
    this.#objects = new Map()
    for (const index of this.#indexes.values()) index.clear()
    this.#sorted = undefined
    this.#stale.clear()
  }

  /** Remembers that an object changed. */
  #note(id: string): void {
    if (this.#sorted === undefined) return
    this.#stale.add(id)
    if (this.#stale.size <= this.#sorted.length * PATCHED_PART_MAX) return
    this.#sorted = undefined
    this.#stale.clear()
  }

  /** A new list: who has the old one keeps it. */
  #patched(sorted: readonly T[]): readonly T[] {
    const list = [...sorted]
    for (const id of this.#stale) {
      const place = placeOf(list, id)
      const isThere = list[place]?.id === id
      const object = this.#objects.get(id)
      list.splice(place, isThere ? 1 : 0, ...(object === undefined ? [] : [object]))
    }
    return list
  }

  #unindex(object: T): void {
    for (const [name, keyOf] of Object.entries(this.#keys)) {
      const index = this.#indexes.get(name)
      const key = keyOf(object)
      const ids = index?.get(key)
      ids?.delete(object.id)
      if (ids?.size === 0) index?.delete(key)
    }
  }
}

/** Where `id` is in a list in order of ids, or would be. */
function placeOf(list: readonly StoredObject[], id: string): number {
  let [low, high] = [0, list.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((list[middle]?.id ?? '') < id) low = middle + 1
    else high = middle
  }
  return low
}

/** Order of ids by code unit, the same on every machine (no locale). */
export function byId(a: { readonly id: string }, b: { readonly id: string }): number {
  if (a.id === b.id) return 0
  return a.id < b.id ? -1 : 1
}
