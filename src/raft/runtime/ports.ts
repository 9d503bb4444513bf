/**
 * Ports of raft-ts' runtime: the user's state machine and the transport. Members are named by
 * `ServerId` (any string) here; the core's numbers stay inside (`member-numbers.ts`).
 * Source: hashicorp/raft `fsm.go`, `transport.go`; `reference/raft.md` §2.5.
 */
import type { Index, SnapshotMetadata, Term } from '../core/entry.ts'
import type { Message } from '../core/message.ts'

/** A member's name; never reused after removal. */
export type ServerId = string

/** A member. Address is opaque to Raft. */
export interface Server {
  readonly id: ServerId
  readonly address: string
  readonly suffrage: 'voter' | 'learner'
}

/** Who is a member, as of `index`. */
export interface Configuration {
  readonly servers: readonly Server[]
  readonly index: Index
  /** Whether a joint change is under way. */
  readonly joint: boolean
}

/** A committed command. */
export interface CommittedEntry {
  readonly index: Index
  readonly term: Term
  readonly data: Uint8Array
}

/**
 * The replicated state machine. Deterministic: the same entries give the same results everywhere.
 */
export interface StateMachine<R> {
  /** Applies a batch in order; one result an entry. Synchronous; throwing is fatal to the node. */
  apply(entries: readonly CommittedEntry[]): readonly R[]
  /** A consistent view of now, written out while later entries are applied. */
  snapshot(): AsyncIterable<Uint8Array>
  /** Replaces the whole state. */
  restore(source: AsyncIterable<Uint8Array>, index: Index): Promise<void>
}

/** What the transport delivers. */
export interface TransportHandler {
  onMessage(from: ServerId, message: Message): void
  /** A snapshot's bytes with its message; resolves when it is stored. */
  onSnapshot(from: ServerId, transfer: SnapshotTransfer): Promise<void>
  /** The link to `peer` broke or could not be made; `closed` = its process ended the connection. */
  onUnreachable(peer: ServerId, reason: 'closed' | 'timeout'): void
}

/** A snapshot on its way. */
export interface SnapshotTransfer {
  readonly message: Message
  readonly metadata: SnapshotMetadata
  readonly membership: Uint8Array
  readonly sizeBytes: number
  readonly source: AsyncIterable<Uint8Array>
}

/** Moves messages. Fire and forget, ordered per peer, coalesced, bounded; loss is allowed. */
export interface Transport {
  start(handler: TransportHandler): void
  send(to: ServerId, messages: readonly Message[]): void
  /** Resolves when the far side has stored the snapshot. */
  sendSnapshot(
    to: ServerId,
    transfer: SnapshotTransfer,
    options: { readonly signal: AbortSignal },
  ): Promise<void>
  close(): Promise<void>
}
