/**
 * What a follower does with each message: it obeys the leader and passes on what is the leader's to
 * decide. Source: Raft §5.2; etcd-io/raft `raft.go` (`stepFollower`), in its semantics.
 */
import { onLeaderMessage } from './append-handler.ts'
import { hup } from './elections.ts'
import { NO_PEER, type PeerId } from './entry.ts'
import { isOneOf } from './message.ts'
import type { Message, Proposal, ReadIndexRequest, ReadIndexResponse } from './message.ts'
import type { Raft } from './raft.ts'
import type { StepResult } from './step-result.ts'

const concernsFollower = isOneOf([
  'app',
  'forgetLeader',
  'heartbeat',
  'prop',
  'readIndex',
  'readIndexResp',
  'snap',
  'timeoutNow',
  'transferLeader',
])

/** Handles a message of this term as follower; the rest is for other roles. */
export function stepFollower(raft: Raft, message: Message): StepResult {
  if (!concernsFollower(message)) return 'ok'
  switch (message.type) {
    case 'app':
    case 'heartbeat':
    case 'snap':
      raft.electionElapsed = 0
      raft.lead = message.from
      onLeaderMessage(raft, message)
      return 'ok'
    case 'prop':
      return forwardProposal(raft, message)
    case 'transferLeader':
      if (hasLeader(raft, 'transferLeader'))
        raft.send({ ...message, to: raft.lead, term: raft.term })
      return 'ok'
    case 'forgetLeader':
      forgetLeader(raft)
      return 'ok'
    case 'timeoutNow':
      // No pre-vote: the leader itself asked, so there is no partition to recover from.
      tellTimeoutNow(raft, message.from, true)
      hup(raft, 'transfer')
      return 'ok'
    case 'readIndex':
      forwardRead(raft, message)
      return 'ok'
    case 'readIndexResp':
      onReadIndexResponse(raft, message)
      return 'ok'
    default:
      return message satisfies never
  }
}

function forwardProposal(raft: Raft, message: Proposal): StepResult {
  if (!hasLeader(raft, 'prop')) return 'dropped'
  if (raft.options.disableProposalForwarding) {
    const { lead, term } = raft
    raft.tell({ type: 'proposalDropped', reason: 'forwardingDisabled', peer: lead, term })
    return 'dropped'
  }
  raft.send({ ...message, to: raft.lead })
  return 'ok'
}

/**
 * Only this member's own reads: one that another follower sent here by mistake is asked again
 * there.
 */
function forwardRead(raft: Raft, message: ReadIndexRequest): void {
  if (!hasLeader(raft, 'readIndex') || message.from !== raft.id) return
  const context = raft.forwardedReads.register(message.context)
  raft.send({ ...message, to: raft.lead, context })
}

function onReadIndexResponse(raft: Raft, message: ReadIndexResponse): void {
  const context = raft.forwardedReads.take(message.context)
  if (context !== undefined) raft.readStates.push({ index: message.index, context })
}

/** Makes this follower willing to vote at once; unsafe where a lease counts on its refusal. */
function forgetLeader(raft: Raft): void {
  if (raft.options.readOnly === 'lease') {
    raft.tell({ type: 'forgetLeaderRefused' })
    return
  }
  if (raft.lead === NO_PEER) return
  raft.tell({ type: 'leaderForgotten', leader: raft.lead, term: raft.term })
  raft.lead = NO_PEER
}

/** Tells that this member was asked to campaign at once. */
export function tellTimeoutNow(raft: Raft, from: PeerId, obeyed: boolean): void {
  const { term, role } = raft
  raft.tell({ type: 'timeoutNow', from, term, role, obeyed })
}

function hasLeader(raft: Raft, message: 'prop' | 'transferLeader' | 'readIndex'): boolean {
  if (raft.lead !== NO_PEER) return true
  raft.tell({ type: 'noLeader', message, term: raft.term })
  return false
}
