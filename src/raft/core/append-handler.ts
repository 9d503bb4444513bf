/**
 * The follower's side of replication: appends, heartbeats, snapshots from the leader of its term.
 * Source: Raft §5.3, §7; etcd-io/raft `raft.go` (`handleAppendEntries`, `restore`), in its
 * semantics.
 */
import { restoreTracker } from './conf-changer.ts'
import { NO_PEER, type Snapshot } from './entry.ts'
import type { AppendRequest, HeartbeatRequest, SnapshotRequest } from './message.ts'
import type { Raft } from './raft.ts'
import { sendAcceptance } from './replication.ts'
import { Tracker } from './tracker.ts'

/** A message that only the leader of a term sends. */
export type LeaderMessage = AppendRequest | HeartbeatRequest | SnapshotRequest

/** Obeys the leader. */
export function onLeaderMessage(raft: Raft, message: LeaderMessage): void {
  switch (message.type) {
    case 'app':
      onAppend(raft, message)
      break
    case 'heartbeat':
      raft.log.commitTo(message.commit)
      raft.send({
        type: 'heartbeatResp',
        ...raft.head(message.from),
        context: message.context,
      })
      break
    case 'snap':
      onSnapshot(raft, message)
      break
    default:
      message satisfies never
  }
}

function onAppend(raft: Raft, message: AppendRequest): void {
  const { from, index, logTerm, entries, commit } = message
  if (index < raft.log.committed) {
    sendAcceptance(raft, from, raft.log.committed)
    return
  }
  const matched = raft.log.maybeAppend({ index, term: logTerm }, entries, commit)
  if (matched !== undefined) {
    sendAcceptance(raft, from, matched)
    return
  }
  raft.tell({
    type: 'appendRefused',
    from,
    at: { index, term: logTerm },
    ownTerm: raft.log.termOrZero(index),
  })
  // The leader skips everything that cannot match: one refusal a term, not one an entry (bug 8).
  const hint = raft.log.findConflictByTerm(Math.min(index, raft.log.lastIndex), logTerm)
  raft.send({
    type: 'appResp',
    ...raft.head(from),
    index,
    reject: true,
    rejectHint: hint.index,
    logTerm: hint.term,
    commit: raft.log.committed,
  })
}

function onSnapshot(raft: Raft, message: SnapshotRequest): void {
  const { index, term } = message.snapshot.metadata
  const restored = restore(raft, message.snapshot)
  raft.tell({
    type: restored ? 'snapshotInstalled' : 'snapshotIgnored',
    snapshot: { index, term },
    commit: raft.log.committed,
  })
  sendAcceptance(raft, message.from, restored ? raft.log.lastIndex : raft.log.committed)
}

/**
 * Replaces log and configuration by the snapshot. Returns false when it brings nothing: it is
 * behind the commit index, or the log holds its last entry already (then only the commit index
 * moves). A log with another term at that index is dropped as a whole (reference/raft.md bug 14).
 */
function restore(raft: Raft, snapshot: Snapshot): boolean {
  const { index, term, conf } = snapshot.metadata
  if (index <= raft.log.committed) return false
  if (raft.role !== 'follower') {
    raft.tell({ type: 'snapshotRefused', reason: 'role', conf })
    raft.becomeFollower(raft.term + 1, NO_PEER)
    return false
  }
  if (![...conf.voters, ...conf.learners, ...conf.votersOutgoing].includes(raft.id)) {
    raft.tell({ type: 'snapshotRefused', reason: 'notMember', conf })
    return false
  }
  if (raft.log.matches({ index, term })) {
    tellRestored(raft, 'snapshotFastForwarded', snapshot)
    raft.log.commitTo(index)
    return false
  }
  raft.log.restore(snapshot)
  raft.tracker = restoreTracker(new Tracker(raft.options), conf, raft.log.lastIndex)
  raft.tell({ type: 'configurationChanged', conf: raft.tracker.confState() })
  tellRestored(raft, 'snapshotRestored', snapshot)
  return true
}

function tellRestored(
  raft: Raft,
  type: 'snapshotRestored' | 'snapshotFastForwarded',
  { metadata: { index, term } }: Snapshot,
): void {
  raft.tell({
    type,
    snapshot: { index, term },
    commit: raft.log.committed,
    last: raft.log.last,
  })
}
