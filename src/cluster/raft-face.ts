/** What membership needs of raft-ts: the `Raft` class without its type parameter's noise. */
import type { Raft } from '../raft/index.ts'
import type { TransactionResult } from '../store/transaction.ts'

/** The Raft group of the swarm: its commands are transactions. */
export type SwarmRaft = Raft<TransactionResult>
