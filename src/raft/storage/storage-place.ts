/** Where a conformance suite opens a store again and again, on disk or in memory. */

/** Somewhere to store; `store()` gives a store on it, each time for a new "process". */
export interface StoragePlace<T> {
  store(): T
  dispose(): Promise<void>
}
