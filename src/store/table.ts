/**
 * One table of the store: frozen objects by id, with secondary indexes. Lists come in order of id
 * on every replica, whatever the order of writing was.
 */
import type { StoredObject } from './objects.ts'

/** Finds an object's key in one index. */
export type KeyOf<T> = (object: T) => string

/** Objects of one type. */
export class Table<T extends StoredObject> {
  #objects = new Map<string, T>()
  readonly #keys: Readonly<Record<string, KeyOf<T>>>
  /** Index name → key → ids. */
  readonly #indexes = new Map<string, Map<string, Set<string>>>()
  /** `#objects` in order of id; undefined when it has to be made anew. */
  #sorted: readonly T[] | undefined

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
    this.#sorted = undefined
  }

  remove(id: string): void {
    const before = this.#objects.get(id)
    if (before === undefined) return
    this.#unindex(before)
    this.#objects.delete(id)
    this.#sorted = undefined
  }

  clear(): void {
    this.#objects = new Map()
    for (const index of this.#indexes.values()) index.clear()
    this.#sorted = undefined
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

/** Order of ids by code unit, the same on every machine (no locale). */
export function byId(a: { readonly id: string }, b: { readonly id: string }): number {
  if (a.id === b.id) return 0
  return a.id < b.id ? -1 : 1
}
