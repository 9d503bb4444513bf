/**
 * Storage ports of raft-ts. One write is one atomic, durable batch (DESIGN.md decision 3): entries,
 * truncation and hard state together. A failed write is fatal to the node: never guess.
 * Own room, so that a log on files or in memory can stand in. Source: hashicorp/raft `LogStore`,
 * `SnapshotStore`; `reference/raft.md` §2.5, bugs 5, 12, 13, 28, 29.
 */
import type { ConfState, Entry, HardState, Index, SnapshotMetadata, Term } from '../core/entry.ts'

/** One atomic durable write. */
export interface AppendBatch {
  /** Contiguous; replaces whatever the log holds from `entries[0].index` on. */
  readonly entries: readonly Entry[]
  readonly hardState?: HardState
}

/** What `open` found. */
export interface LogContents {
  /** The last hard state written; zeros when new. */
  readonly hardState: HardState
  /** Snapshot position that the log starts after; index 0 when it starts at the beginning. */
  readonly base: { readonly index: Index; readonly term: Term; readonly conf: ConfState }
  readonly lastIndex: Index
  /** Entries that were cut away because the last write was torn; 0 normally. */
  readonly tornEntries: number
}

/** The durable log. Calls do not overlap: the runtime has one write in flight. */
export interface LogStore {
  /**
   * Opens, checks every record's checksum and the sequence for gaps, cuts a torn tail.
   * @throws STORAGE_CORRUPT when damage may hide acknowledged entries
   */
  open(): Promise<LogContents>
  /** Entries [low, high). @throws STORAGE_CORRUPT */
  read(low: Index, high: Index): Promise<readonly Entry[]>
  /** Resolves when the batch is durable. @throws STORAGE_FULL or others: the node must stop */
  append(batch: AppendBatch): Promise<void>
  /** Drops entries up to and including `base.index`, which a snapshot covers. */
  compact(base: LogContents['base']): Promise<void>
  /** Drops everything and starts after `base`: a snapshot was installed. One atomic write. */
  reset(base: LogContents['base'], hardState: HardState): Promise<void>
  close(): Promise<void>
}

/** What a snapshot is, whoever made it: two members may make the same one. */
export interface SnapshotIdentity {
  readonly metadata: SnapshotMetadata
  /** Members with their names and addresses; opaque bytes of the runtime. */
  readonly membership: Uint8Array
  readonly sizeBytes: number
  /** SHA-256 of the content, 64 hexadecimal digits. */
  readonly digest: string
}

/** A finished snapshot on disk. */
export interface StoredSnapshot extends SnapshotIdentity {
  readonly id: string
}

/** Receives a snapshot; nothing of it is visible before `commit`. */
export interface SnapshotSink {
  write(chunk: Uint8Array): Promise<void>
  /** Durable and listed after this (write, fsync, rename, fsync directory). */
  commit(): Promise<StoredSnapshot>
  cancel(): Promise<void>
}

/** Receives a snapshot that is known beforehand; may be left and taken up again. */
export interface PartialSink {
  /** Bytes of content that are there and proven; `write` goes on from here. */
  readonly offset: number
  write(chunk: Uint8Array): Promise<void>
  /**
   * As of `SnapshotSink`. What was announced is compared with what came, size and digest; what
   * differs is dropped. @throws UNAVAILABLE when it differs
   */
  commit(): Promise<StoredSnapshot>
  /** Ends writing; what is there stays for the next `resume`. Nothing after `commit`. */
  suspend(): Promise<void>
}

/** Keeps a snapshot from being deleted. */
export interface SnapshotPin {
  release(): Promise<void>
}

/** Snapshots, newest first; keeps two generations and those that are pinned or being read. */
export interface SnapshotStore {
  open(): Promise<void>
  create(metadata: SnapshotMetadata, membership: Uint8Array): Promise<SnapshotSink>
  /**
   * Takes up what is there of this very snapshot, or begins. There is one partial snapshot: one of
   * another identity is dropped. It outlives the process, as far as it can be proven.
   * @throws FAILED_PRECONDITION while a partial is being written
   */
  resume(identity: SnapshotIdentity): Promise<PartialSink>
  list(): Promise<readonly StoredSnapshot[]>
  /** Until it is released, the snapshot stays, however many newer ones come. @throws NOT_FOUND */
  pin(id: string): SnapshotPin
  /**
   * Bytes from `offset`; from the beginning on, the checksum is compared at the end.
   * @throws STORAGE_CORRUPT, NOT_FOUND
   */
  read(id: string, offset?: number): AsyncIterable<Uint8Array>
  close(): Promise<void>
}
