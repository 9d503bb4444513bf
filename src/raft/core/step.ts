/**
 * The step function: first the term, then what every role does alike, then the role.
 * Source: Raft §5.1; etcd-io/raft `raft.go` (`Step`), in its semantics.
 */
import { onEntriesApplied, onSnapshotApplied } from './applied.ts'
import { stepCandidate } from './candidate.ts'
import {
  hup,
  ignoresVote,
  learnCommit,
  onVoteRequest,
  ownKind,
  refuseOldPreVote,
} from './elections.ts'
import { NO_PEER } from './entry.ts'
import { stepFollower } from './follower.ts'
import { stepLeader } from './leader.ts'
import { isOneOf, type Message, type StorageAppendResponse } from './message.ts'
import type { Raft } from './raft.ts'
import { sendAcceptance } from './replication.ts'
import type { StepResult } from './step-result.ts'

const concernsEveryRole = isOneOf([
  'hup',
  'preVote',
  'storageAppendResp',
  'storageApplyResp',
  'vote',
])

const belongsToElection = isOneOf(['preVote', 'preVoteResp', 'vote', 'voteResp'])

/** Handles one message. */
export function step(raft: Raft, message: Message): StepResult {
  if (belongsToElection(message)) learnCommit(raft, message.committed)
  if (message.term > 0 && message.term < raft.term) {
    onLowerTerm(raft, message)
    return 'ok'
  }
  if (message.term > raft.term && !adoptTerm(raft, message)) return 'ok'
  if (!concernsEveryRole(message)) return stepRole(raft, message)
  switch (message.type) {
    case 'hup':
      if (raft.options.readOnly === 'lease' && raft.role === 'follower' && raft.inLease)
        raft.tell({ type: 'campaignRefused', reason: 'lease', term: raft.term })
      else hup(raft, ownKind(raft))
      return 'ok'
    case 'storageAppendResp':
      onStorageAppended(raft, message)
      return 'ok'
    case 'storageApplyResp':
      onEntriesApplied(raft, message.entries)
      return 'ok'
    case 'vote':
    case 'preVote':
      onVoteRequest(raft, message)
      return 'ok'
    default:
      return message satisfies never
  }
}

function stepRole(raft: Raft, message: Message): StepResult {
  if (raft.leader !== undefined) return stepLeader(raft, raft.leader, message)
  return raft.role === 'follower' ? stepFollower(raft, message) : stepCandidate(raft, message)
}

/** Returns false when the message is to be ignored, term and all. */
function adoptTerm(raft: Raft, message: Message): boolean {
  const { type, from, term } = message
  if (type === 'vote' || type === 'preVote') {
    if (ignoresVote(raft, message)) return false
  }
  // A pre-vote only asks, and its grant answers in a term that nobody is in yet.
  if (type === 'preVote' || (type === 'preVoteResp' && !message.reject)) return true
  raft.tell({
    type: 'higherTerm',
    message: type,
    from,
    messageTerm: term,
    term: raft.term,
  })
  const fromLeader = type === 'app' || type === 'heartbeat' || type === 'snap'
  raft.becomeFollower(term, fromLeader ? from : NO_PEER)
  return true
}

/**
 * With pre-vote or check-quorum this member's higher term may be unknown to a leader whom it hears,
 * and it cannot make it known by campaigning: it answers, so that the leader steps down.
 */
function onLowerTerm(raft: Raft, message: Message): void {
  const { type, from } = message
  const { checkQuorum, preVote } = raft.options
  if ((checkQuorum || preVote) && (type === 'heartbeat' || type === 'app')) {
    sendAcceptance(raft, from, 0)
  } else if (type === 'preVote') {
    refuseOldPreVote(raft, message)
  } else if (type === 'storageAppendResp') {
    // The entries may have been replaced since; a snapshot holds in any term.
    if (message.index !== 0) tellIgnored(raft, 'staleAppendIgnored', message)
    if (message.snapshot !== undefined) onSnapshotApplied(raft, message.snapshot)
  } else {
    tellIgnored(raft, 'lowerTermIgnored', message)
  }
}

function tellIgnored(
  raft: Raft,
  type: 'lowerTermIgnored' | 'staleAppendIgnored',
  message: Message,
): void {
  raft.tell({
    type,
    message: message.type,
    from: message.from,
    messageTerm: message.term,
    term: raft.term,
  })
}

function onStorageAppended(raft: Raft, message: StorageAppendResponse): void {
  const { index, logTerm, snapshot } = message
  if (index !== 0) raft.log.unstable.stableTo({ index, term: logTerm })
  if (snapshot !== undefined) onSnapshotApplied(raft, snapshot)
}
