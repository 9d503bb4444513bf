/**
 * The leader's side of replication: what is sent to whom, and when an entry is committed.
 * Source: Raft §5.3, §5.4.2; etcd-io/raft `raft.go` (`maybeSendAppend`, `appendEntry`), in its
 * semantics.
 */
import { assert } from '../../base/assert.ts'
import type { Entry, Index, PeerId } from './entry.ts'
import type { ProposedEntry } from './message.ts'
import type { Progress } from './progress.ts'
import type { LeaderState, Raft } from './raft.ts'
import { totalBytes } from './raft-log.ts'

/**
 * Bytes that count against windows and the uncommitted limit: the data alone, so 0 for empty ones.
 */
export function dataBytes(entries: readonly ProposedEntry[]): number {
  return totalBytes(entries as readonly Entry[], (entry) => entry.data.length)
}

/**
 * Appends proposals to the leader's log and acknowledges them to itself once they are durable.
 * Returns false, and appends nothing, when too much waits for commit. One that finds nothing
 * waiting, and an empty one, always fit.
 */
export function appendEntries(
  raft: Raft,
  leader: LeaderState,
  proposals: readonly ProposedEntry[],
): boolean {
  const bytes = dataBytes(proposals)
  const { uncommittedBytes } = leader
  const fits = uncommittedBytes + bytes <= raft.options.maxUncommittedBytes
  if (uncommittedBytes > 0 && bytes > 0 && !fits) {
    raft.tell({
      type: 'proposalDropped',
      reason: 'uncommittedBytes',
      peer: raft.id,
      term: raft.term,
    })
    return false
  }
  leader.uncommittedBytes += bytes
  const first = raft.log.lastIndex + 1
  raft.log.append(
    proposals.map(({ type, data }, position) => ({
      index: first + position,
      term: raft.term,
      type,
      data,
    })),
  )
  sendAcceptance(raft, raft.id, raft.log.lastIndex)
  return true
}

/** Tells `to` that this log matches up to `index`; waits for the write. */
export function sendAcceptance(raft: Raft, to: PeerId, index: Index): void {
  // Written out: in the hottest messages a spread costs more than all the rest of making them.
  raft.send({
    type: 'appResp',
    from: raft.id,
    to,
    term: raft.term,
    index,
    reject: false,
    rejectHint: 0,
    logTerm: 0,
    commit: raft.log.committed,
  })
}

/** Commits what a quorum has, if it is of this term. Returns whether anything new is committed. */
export function maybeCommit(raft: Raft): boolean {
  return raft.log.maybeCommit({ term: raft.term, index: raft.tracker.committedIndex() })
}

/** Whether an entry of this term is committed: then so is everything of earlier terms. */
export function committedInTerm(raft: Raft): boolean {
  return raft.log.termOrZero(raft.log.committed) === raft.term
}

/** Sends every other member what it lacks, or at least the commit index. */
export function broadcastAppend(raft: Raft): void {
  for (const [id, progress] of raft.tracker.entries()) {
    if (id !== raft.id) sendAppend(raft, id, progress)
  }
}

/** Sends entries, an empty append, or a snapshot, unless `to` is paused. */
export function sendAppend(raft: Raft, to: PeerId, progress: Progress): void {
  trySend(raft, to, { progress, evenIfEmpty: true })
}

/** Sends entries or a snapshot; returns false when there was nothing to send or no room. */
export function maybeSendEntries(raft: Raft, to: PeerId, progress: Progress): boolean {
  return trySend(raft, to, { progress, evenIfEmpty: false })
}

function trySend(
  raft: Raft,
  to: PeerId,
  { progress, evenIfEmpty }: { readonly progress: Progress; readonly evenIfEmpty: boolean },
): boolean {
  if (progress.isPaused) return false
  const previous = progress.next - 1
  const logTerm = raft.log.term(previous)
  if (logTerm === 'compacted') return maybeSendSnapshot(raft, to, progress)
  const entries = logTerm === 'unavailable' ? logTerm : entriesToSend(raft, progress)
  if (entries === 'compacted') return maybeSendSnapshot(raft, to, progress)
  if (entries === 'unavailable' || logTerm === 'unavailable') {
    raft.tell({ type: 'entriesUnavailable', peer: to, next: progress.next })
    return false
  }
  if (entries.length === 0 && !evenIfEmpty) return false
  const commit = raft.log.committed
  const { id: from, term } = raft
  raft.send({ type: 'app', from, to, term, index: previous, logTerm, entries, commit })
  progress.sentEntries(entries.length, dataBytes(entries))
  progress.sentCommit(commit)
  return true
}

/**
 * Nothing while the window is full: an empty append still goes, so that a follower whose messages
 * were all lost can refuse it and be probed anew (bug 9).
 */
function entriesToSend(raft: Raft, progress: Progress): ReturnType<typeof raft.log.entries> {
  if (progress.mode === 'replicate' && progress.inflights.full) return []
  return raft.log.entries(progress.next, raft.options.maxBytesPerMessage)
}

/** Sends the newest snapshot to a member that was heard from. */
function maybeSendSnapshot(raft: Raft, to: PeerId, progress: Progress): boolean {
  if (!progress.recentActive) {
    raft.tell({ type: 'snapshotNotSent', peer: to, reason: 'inactive' })
    return false
  }
  const snapshot = raft.log.snapshot()
  if (snapshot === 'unavailable') {
    raft.tell({ type: 'snapshotNotSent', peer: to, reason: 'unavailable' })
    return false
  }
  const { index, term } = snapshot.metadata
  assert(index > 0, 'a compacted log has a snapshot')
  raft.tell({
    type: 'snapshotSent',
    peer: to,
    snapshot: { index, term },
    firstIndex: raft.log.firstIndex,
    commit: raft.log.committed,
    progress: progress.status(),
  })
  progress.becomeSnapshot(index)
  raft.tell({ type: 'replicationPaused', peer: to, progress: progress.status() })
  raft.send({ type: 'snap', ...raft.head(to), snapshot })
  return true
}

/**
 * Sends every other member, or every other voter, a heartbeat that carries `round` (0: none).
 */
export function broadcastHeartbeat(raft: Raft, round: number, toLearners: boolean): void {
  for (const [id, progress] of raft.tracker.entries()) {
    if (id === raft.id || (progress.isLearner && !toLearners)) continue
    const commit = Math.min(progress.match, raft.log.committed)
    raft.send({ type: 'heartbeat', ...raft.head(id), commit, context: round })
    progress.sentCommit(commit)
  }
}
