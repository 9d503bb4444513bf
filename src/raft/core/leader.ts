/**
 * What a leader does with each message. Source: Raft §5.3; etcd-io/raft `raft.go` (`stepLeader`),
 * in its semantics.
 */
import { assert } from '../../base/assert.ts'
import { admitConfChanges } from './conf-changes.ts'
import { NO_PEER, type PeerId } from './entry.ts'
import { isOneOf } from './message.ts'
import type {
  AppendResponse,
  HeartbeatResponse,
  Message,
  MessageOf,
  ProposedEntry,
} from './message.ts'
import type { Progress } from './progress.ts'
import type { LeaderState, Raft } from './raft.ts'
import { answerConfirmed, onReadIndex, roundOfBeat, serveEarlyReads } from './read-requests.ts'
import {
  appendEntries,
  broadcastAppend,
  broadcastHeartbeat,
  maybeCommit,
  maybeSendEntries,
  sendAppend,
} from './replication.ts'
import type { StepResult } from './step-result.ts'
import { maybeFinishTransfer, startTransfer } from './transfer.ts'

/** A message of a member, or about one. */
const concernsMember = isOneOf([
  'appResp',
  'heartbeatResp',
  'snapStatus',
  'transferLeader',
  'unreachable',
])

/** A message of the leader to itself, or of a client. */
const concernsLeader = isOneOf(['beat', 'checkQuorum', 'prop', 'readIndex'])

/** Handles a message of this term as leader; the rest is for other roles. */
export function stepLeader(raft: Raft, leader: LeaderState, message: Message): StepResult {
  if (concernsMember(message)) onMemberMessage(raft, leader, message)
  if (!concernsLeader(message)) return 'ok'
  switch (message.type) {
    case 'beat':
      broadcastHeartbeat(raft, roundOfBeat(raft, leader), learnersAreDue(raft, leader))
      return 'ok'
    case 'checkQuorum':
      checkQuorum(raft)
      return 'ok'
    case 'prop':
      return propose(raft, leader, message.entries)
    case 'readIndex':
      onReadIndex(raft, leader, message)
      return 'ok'
    default:
      return message satisfies never
  }
}

type MemberMessage = MessageOf<
  'appResp' | 'heartbeatResp' | 'snapStatus' | 'transferLeader' | 'unreachable'
>

function onMemberMessage(raft: Raft, leader: LeaderState, message: MemberMessage): void {
  const { from } = message
  const progress = raft.tracker.progress(from)
  if (progress === undefined) {
    raft.tell({ type: 'noProgress', peer: from })
    return
  }
  switch (message.type) {
    case 'appResp':
      progress.recentActive = true
      if (message.reject) onRefusal(raft, message, progress)
      else onAcceptance(raft, leader, { message, progress })
      break
    case 'heartbeatResp':
      onHeartbeatResponse(raft, leader, { message, progress })
      break
    case 'snapStatus':
      onSnapshotStatus(raft, from, { ok: !message.reject, progress })
      break
    case 'transferLeader':
      startTransfer(raft, leader, { to: from, progress })
      break
    case 'unreachable':
      // What was on its way is probably lost.
      if (progress.mode === 'replicate') progress.becomeProbe()
      tellProgress(raft, 'peerUnreachable', from)
      break
    default:
      message satisfies never
  }
}

/** Whether this beat goes to learners, too. */
function learnersAreDue(raft: Raft, leader: LeaderState): boolean {
  const { heartbeatTicks, learnerHeartbeatTicks } = raft.options
  leader.learnersElapsed += heartbeatTicks
  if (leader.learnersElapsed < learnerHeartbeatTicks) return false
  leader.learnersElapsed = 0
  return true
}

/** Appends proposals and sends them on. */
export function propose(
  raft: Raft,
  leader: LeaderState,
  proposals: readonly ProposedEntry[],
): StepResult {
  assert(proposals.length > 0, 'a proposal has entries')
  const removed = raft.tracker.progress(raft.id) === undefined
  if (removed || leader.transferee !== NO_PEER) {
    const reason = removed ? 'removed' : 'transfer'
    raft.tell({ type: 'proposalDropped', reason, peer: leader.transferee, term: raft.term })
    return 'dropped'
  }
  const { admitted, refused } = admitConfChanges(raft, leader, proposals)
  if (!appendEntries(raft, leader, admitted)) return 'dropped'
  broadcastAppend(raft)
  return refused ? 'refused' : 'ok'
}

/** Steps down when no quorum was heard from since the last time (bug 3). */
function checkQuorum(raft: Raft): void {
  if (!raft.tracker.quorumActive()) {
    raft.tell({ type: 'quorumLost', term: raft.term })
    raft.becomeFollower(raft.term, NO_PEER)
  }
  for (const [id, progress] of raft.tracker.entries()) {
    if (id !== raft.id) progress.recentActive = false
  }
}

/** The follower lacks the entry before those sent: go back, by whole terms if possible. */
function onRefusal(raft: Raft, message: AppendResponse, progress: Progress): void {
  const { from, index, rejectHint, logTerm } = message
  raft.tell({ type: 'appendRefusal', from, index, hint: { index: rejectHint, term: logTerm } })
  const probe = logTerm > 0 ? raft.log.findConflictByTerm(rejectHint, logTerm).index : rejectHint
  if (!progress.maybeDecrease(index, probe)) return
  tellProgress(raft, 'progressDecreased', from)
  if (progress.mode === 'replicate') progress.becomeProbe()
  sendAppend(raft, from, progress)
}

/** The member, or this leader itself, has everything up to `index` on disk. */
function onAcceptance(
  raft: Raft,
  leader: LeaderState,
  { message, progress }: { readonly message: AppendResponse; readonly progress: Progress },
): void {
  const { from, index } = message
  const news = progress.maybeUpdate(index)
  if (!news && !(progress.match === index && progress.mode === 'probe')) return
  advanceMode(raft, message, progress)
  if (maybeCommit(raft)) {
    serveEarlyReads(raft, leader)
    broadcastAppend(raft)
  } else if (from !== raft.id && progress.canBumpCommit(raft.log.committed)) {
    sendAppend(raft, from, progress)
  }
  if (from !== raft.id) {
    while (maybeSendEntries(raft, from, progress));
  }
  maybeFinishTransfer(raft, leader, from)
}

/** An accepted append moves a member to replication, or frees its window. */
function advanceMode(raft: Raft, { from, index }: AppendResponse, progress: Progress): void {
  switch (progress.mode) {
    case 'probe':
      progress.becomeReplicate()
      break
    case 'snapshot':
      // Whichever snapshot it installed: what follows is in the log.
      if (progress.match + 1 >= raft.log.firstIndex) {
        tellProgress(raft, 'snapshotAcknowledged', from)
        progress.becomeProbe()
        progress.becomeReplicate()
      }
      break
    case 'replicate':
      progress.inflights.freeTo(index)
      break
    default:
      progress.mode satisfies never
  }
}

function onHeartbeatResponse(
  raft: Raft,
  leader: LeaderState,
  { message, progress }: { readonly message: HeartbeatResponse; readonly progress: Progress },
): void {
  const { from, context } = message
  progress.recentActive = true
  progress.flowPaused = false
  if (progress.match < raft.log.lastIndex || progress.mode === 'probe')
    sendAppend(raft, from, progress)
  if (context === 0) return
  leader.reads.acknowledge(from, context)
  answerConfirmed(raft, leader)
}

/** After success wait for the member's own word, after failure for a heartbeat, then probe. */
function onSnapshotStatus(
  raft: Raft,
  peer: PeerId,
  { ok, progress }: { readonly ok: boolean; readonly progress: Progress },
): void {
  if (progress.mode !== 'snapshot') return
  if (!ok) progress.pendingSnapshot = 0
  progress.becomeProbe()
  raft.tell({ type: 'snapshotReported', peer, ok, progress: progress.status() })
  progress.flowPaused = true
}

function tellProgress(
  raft: Raft,
  type: 'progressDecreased' | 'snapshotAcknowledged' | 'peerUnreachable',
  peer: PeerId,
): void {
  const progress = raft.tracker.progress(peer)
  if (progress !== undefined) raft.tell({ type, peer, progress: progress.status() })
}
