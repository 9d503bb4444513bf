/**
 * Ports of raft-ts' runtime: the user's state machine and the transport. Members are named by
 * `ServerId` (any string) here; the core's numbers stay inside (`member-numbers.ts`).
 * Source: hashicorp/raft `fsm.go`, `transport.go`; `reference/raft.md` §2.5.
 */
import type { Index, Term } from '../core/entry.ts'
import type { Message } from '../core/message.ts'
import type { SnapshotIdentity } from '../storage/ports.ts'

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
  /**
   * The membership in force at this place of the log: between the entries before and behind it,
   * after a snapshot was restored, and at a start. Synchronous; throwing is fatal to the node.
   * hashicorp/raft `ConfigurationStore`.
   */
  configurationChanged?(configuration: Configuration): void
  /**
   * Replaces the whole state. Reads go on meanwhile: the new state comes into force in one turn, at
   * the end, and only when the whole of it could be read; until then the old one is there.
   */
  restore(source: AsyncIterable<Uint8Array>, index: Index): Promise<void>
}

/** What the transport delivers. */
export interface TransportHandler {
  onMessage(from: ServerId, message: Message): void
  /**
   * A snapshot with its message; resolves when it is stored. Reads from where it wants the content,
   * or does not read when it needs nothing of it.
   */
  onSnapshot(from: ServerId, transfer: SnapshotTransfer): Promise<void>
  /** The link to `peer` broke or could not be made; `closed` = its process ended the connection. */
  onUnreachable(peer: ServerId, reason: 'closed' | 'timeout'): void
}

/** A snapshot that is offered, without its content. */
export interface SnapshotOffer extends SnapshotIdentity {
  readonly message: Message
}

/** A snapshot on its way. */
export interface SnapshotTransfer extends SnapshotOffer {
  /**
   * The content from byte `offset` on, in checked chunks (`snapshot-chunks.ts`), whose bytes a
   * transport passes on as they are, cut and joined as it likes. Called once at most, by the
   * receiver: with it, the sender learns where to begin. Throws when the stream breaks.
   */
  read(offset: number): AsyncIterable<Uint8Array>
}

/** Moves messages. Fire and forget, ordered per peer, coalesced, bounded; loss is allowed. */
export interface Transport {
  start(handler: TransportHandler): void
  send(to: ServerId, messages: readonly Message[]): void
  /**
   * Resolves when the far side has stored the snapshot. One attempt: who called repeats it, and the
   * receiver goes on where it was. Must not delay messages.
   */
  sendSnapshot(
    to: ServerId,
    transfer: SnapshotTransfer,
    options: { readonly signal: AbortSignal },
  ): Promise<void>
  close(): Promise<void>
}
