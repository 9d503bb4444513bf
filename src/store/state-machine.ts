/**
 * The store as Raft's state machine: decodes committed entries, applies them, writes and reads
 * snapshots. An entry that does not decode has an error as its result on every replica and changes
 * nothing; it never stops a node.
 */
import { isSwarmError } from '../base/errors.ts'
import type { Index } from '../raft/core/entry.ts'
import type { CommittedEntry, StateMachine } from '../raft/runtime/ports.ts'
import { decodeTransaction } from './codec.ts'
import { readSnapshot, writeSnapshot } from './snapshot.ts'
import { Store, refused } from './store.ts'
import type { Transaction, TransactionResult } from './transaction.ts'

/** Applies the Raft log to a {@link Store}. */
export class StoreStateMachine implements StateMachine<TransactionResult> {
  readonly store: Store

  constructor(store: Store = new Store()) {
    this.store = store
  }

  apply(entries: readonly CommittedEntry[]): readonly TransactionResult[] {
    return entries.map((entry) => this.#applyOne(entry))
  }

  /** Captured when called; later entries do not show in it. */
  snapshot(): AsyncIterable<Uint8Array> {
    return writeSnapshot(this.store.image())
  }

  /** @throws STORAGE_CORRUPT; the store is then as it was */
  async restore(source: AsyncIterable<Uint8Array>, index: Index): Promise<void> {
    const image = await readSnapshot(source)
    this.store.load({ ...image, index: Math.max(image.index, index) })
  }

  #applyOne(entry: CommittedEntry): TransactionResult {
    let transaction: Transaction
    try {
      transaction = decodeTransaction(entry.data)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.store.skip(entry.index)
      return refused(entry.index, error)
    }
    return this.store.applyTransaction(transaction, entry.index)
  }
}
