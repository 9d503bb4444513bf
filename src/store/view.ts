/**
 * How components see the store: synchronous reads of the local replica and a stream of commits.
 * The replica may be behind the leader; what decides (control) runs on the leader only.
 */
import type { TableName, Tables } from './objects.ts'

/** One object before and after a transaction: created, updated or removed. */
export type Change = {
  readonly [T in TableName]: {
    readonly table: T
    readonly id: string
    /** Absent when the object was created. */
    readonly before?: Tables[T]
    /** Absent when the object was removed. */
    readonly after?: Tables[T]
  }
}[TableName]

/**
 * The changes of one applied transaction, or `restored`: everything may be different, read anew.
 */
export type Commit =
  | { readonly type: 'changes'; readonly index: number; readonly changes: readonly Change[] }
  | { readonly type: 'restored'; readonly index: number }

/** Secondary indexes and the type of their keys. */
export interface Indexes {
  readonly cluster: object
  readonly nodes: { readonly name: string; readonly peerId: string }
  readonly networks: { readonly name: string }
  readonly services: { readonly name: string }
  readonly tasks: {
    readonly serviceId: string
    readonly nodeId: string
    /** `<serviceId>/<slot>` */
    readonly slot: string
  }
}

/** Read access. Objects are frozen; lists are in order of id and are the caller's own. */
export interface StoreView {
  /** Index of the last applied entry. */
  readonly index: number
  get<T extends TableName>(table: T, id: string): Tables[T] | undefined
  list<T extends TableName>(table: T): Tables[T][]
  /** All objects whose index key equals `key`. */
  find<T extends TableName, I extends keyof Indexes[T] & string>(
    table: T,
    index: I,
    key: string,
  ): Tables[T][]
  /** All objects whose id begins with `prefix`. */
  findByIdPrefix<T extends TableName>(table: T, prefix: string): Tables[T][]
  /** The cluster object, when this node is in a swarm and has caught up so far. */
  cluster(): Tables['cluster'] | undefined
  /**
   * Calls `listener` synchronously after each transaction that changed something; returns the undo.
   */
  onCommit(listener: (commit: Commit) => void): () => void
  /** Resolves when entry `index` is applied here. @throws the signal's reason */
  waitForIndex(index: number, options?: { readonly signal?: AbortSignal }): Promise<void>
}
