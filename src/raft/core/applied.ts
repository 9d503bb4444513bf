/**
 * What the core does when the state machine has applied entries. Source: etcd-io/raft `raft.go`
 * (`appliedTo`).
 */
import type { Entry, Index, Snapshot } from './entry.ts'
import { propose } from './leader.ts'
import type { Raft } from './raft.ts'
import { totalBytes } from './raft-log.ts'
import { dataBytes } from './replication.ts'

/** Committed entries were applied. */
export function onEntriesApplied(raft: Raft, entries: readonly Entry[]): void {
  const last = entries.at(-1)
  if (last === undefined) return
  const bytes = totalBytes(entries, raft.options.entrySize)
  appliedTo(raft, last.index, bytes)
  const { leader } = raft
  if (leader !== undefined)
    leader.uncommittedBytes = Math.max(0, leader.uncommittedBytes - dataBytes(entries))
}

/** A snapshot was installed. */
export function onSnapshotApplied(raft: Raft, snapshot: Snapshot): void {
  raft.log.unstable.stableSnapshotTo(snapshot.metadata.index)
  appliedTo(raft, snapshot.metadata.index, 0)
}

/**
 * A leader leaves a joint configuration by itself where that was asked for. The proposal can be
 * dropped while a transfer runs; then either the new leader does it, or this one when the transfer
 * is given up.
 */
export function maybeLeaveJoint(raft: Raft): void {
  const { leader, tracker, log } = raft
  if (leader === undefined || !tracker.membership.autoLeave) return
  if (log.applied < leader.pendingConfIndex) return
  const conf = tracker.confState()
  const result = propose(raft, leader, [{ type: 'confChangeV2', data: new Uint8Array() }])
  raft.tell({ type: 'autoLeave', conf, proposed: result === 'ok' })
}

function appliedTo(raft: Raft, index: Index, bytes: number): void {
  raft.log.appliedTo(Math.max(index, raft.log.applied), bytes)
  maybeLeaveJoint(raft)
}
