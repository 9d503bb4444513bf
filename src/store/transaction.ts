/**
 * Transactions: the only way to change the store. One raft entry is one transaction; it applies
 * wholly or not at all, and the same way on every replica. A transaction that breaks a rule (stale
 * version, taken name, missing object) is a committed entry with no effect and an error as result.
 *
 * A request id makes a retry after an unknown outcome harmless: the state machine keeps the results
 * of the last `REQUEST_HISTORY_MAX` ids and gives the first result again.
 * Source: swarmkit `design/store.md`; Ongaro §6.3 (exactly-once).
 */
import type { ErrorCode } from '../base/errors.ts'
import type { NodeDescription, TableName, Tables, TaskState, TaskStatus } from './objects.ts'

/** An object as a proposer gives it: the state machine adds `meta`. */
export type Draft<T> = Omit<T, 'meta'>

/** Insert. Fails with ALREADY_EXISTS when the id or a unique name is taken. */
export type CreateAction = {
  readonly [T in TableName]: {
    readonly type: 'create'
    readonly table: T
    readonly object: Draft<Tables[T]>
  }
}[TableName]

/** Replace. Fails with OUT_OF_SEQUENCE when `version` is not the object's `meta.version`. */
export type UpdateAction = {
  readonly [T in TableName]: {
    readonly type: 'update'
    readonly table: T
    readonly object: Draft<Tables[T]>
    readonly version: number
  }
}[TableName]

/** Delete. With `version`, fails with OUT_OF_SEQUENCE when it is not the object's. */
export interface RemoveAction {
  readonly type: 'remove'
  readonly table: TableName
  readonly id: string
  readonly version?: number
}

/**
 * The node's report on its own task. Touches `status` alone; a report that is not ahead of the
 * stored state (or the same state with news) is dropped without an error, and so is one for an
 * unknown task.
 */
export interface ObserveTaskAction {
  readonly type: 'observeTask'
  readonly id: string
  readonly nodeId: string
  readonly status: TaskStatus
}

/** The node's report on itself. Touches `description`, `addresses` and `advertiseHost` alone. */
export interface ObserveNodeAction {
  readonly type: 'observeNode'
  readonly id: string
  readonly description: NodeDescription
  readonly addresses: readonly string[]
  readonly advertiseHost: string
}

/**
 * The node's local restart (DESIGN.md decision 8): `predecessor` ended with `status`, and the node
 * made its successor, `successorTaskId(predecessor)` of `restart-policy.ts`, from the same spec in
 * the same slot on itself. Sets the predecessor's desired state to `shutdown`. Does nothing when
 * that successor exists; fails with FAILED_PRECONDITION when the predecessor is gone or no longer
 * wanted running: the node then stops the successor.
 */
export interface RestartTaskAction {
  readonly type: 'restartTask'
  readonly predecessor: string
  readonly nodeId: string
  /** The predecessor's last status; terminal. */
  readonly status: TaskStatus
  /** The successor's first status. */
  readonly successorStatus: TaskStatus
}

/**
 * The leader's wish for a task. Touches `desiredState` alone, and only forward, so it needs no
 * version and never collides with the node's reports; does nothing for an unknown task.
 */
export interface DesireTaskAction {
  readonly type: 'desireTask'
  readonly id: string
  readonly desiredState: TaskState
}

/** One step of a transaction. */
export type Action =
  | CreateAction
  | UpdateAction
  | RemoveAction
  | DesireTaskAction
  | ObserveTaskAction
  | RestartTaskAction
  | ObserveNodeAction

/** What stands in one raft entry. */
export interface Transaction {
  /** Unique to the intent, not to the attempt: 25 base-36 digits. */
  readonly requestId: string
  /** Proposer's wall clock, RFC 3339; becomes `createdAt` and `updatedAt`. */
  readonly at: string
  readonly actions: readonly Action[]
}

/** What a transaction did. */
export type TransactionResult =
  | { readonly ok: true; readonly index: number }
  | {
      readonly ok: false
      readonly index: number
      readonly code: ErrorCode
      readonly message: string
    }

/** Most actions in one transaction; a longer list is split by the caller or refused. */
export const TRANSACTION_ACTIONS_MAX = 200

/** Most bytes of one encoded transaction (swarmkit: 1.5 MiB); larger is INVALID_ARGUMENT. */
export const TRANSACTION_BYTES_MAX = 1.5 * 1024 * 1024

/** Request ids whose results are remembered; the oldest is forgotten. */
export const REQUEST_HISTORY_MAX = 10_000

/** Options of a proposal. */
export interface ProposeOptions {
  /** Given by a caller that may repeat itself; else a new one is made. */
  readonly requestId?: string
  readonly signal?: AbortSignal
}

/**
 * Proposes transactions, on any node: applies here when this node leads, else forwards to the
 * leader, and retries with the same request id while the outcome is unknown. Resolves when the
 * transaction is applied to *this* node's store, so a caller reads its own write.
 */
export interface Proposer {
  /**
   * @throws SwarmError with the code of a refused transaction, NO_LEADER, TIMED_OUT (it may still
   * take effect), PERMISSION_DENIED (a worker wrote what is not its own), SHUTTING_DOWN, ABORTED.
   */
  propose(actions: readonly Action[], options?: ProposeOptions): Promise<{ readonly index: number }>
}
