/**
 * What a candidate and a pre-candidate do with each message. Source: Raft §5.2; etcd-io/raft
 * `raft.go`.
 */
import { onLeaderMessage } from './append-handler.ts'
import { onVoteResponse } from './elections.ts'
import { tellTimeoutNow } from './follower.ts'
import { isOneOf, type Message } from './message.ts'
import type { Raft } from './raft.ts'
import type { StepResult } from './step-result.ts'

const concernsCandidate = isOneOf([
  'app',
  'heartbeat',
  'preVoteResp',
  'prop',
  'snap',
  'timeoutNow',
  'voteResp',
])

/** Handles a message of this term as candidate or pre-candidate; the rest is for other roles. */
export function stepCandidate(raft: Raft, message: Message): StepResult {
  if (!concernsCandidate(message)) return 'ok'
  switch (message.type) {
    case 'prop':
      raft.tell({ type: 'noLeader', message: 'prop', term: raft.term })
      return 'dropped'
    case 'app':
    case 'heartbeat':
    case 'snap':
      raft.becomeFollower(message.term, message.from)
      onLeaderMessage(raft, message)
      return 'ok'
    case 'voteResp':
    case 'preVoteResp': {
      // Answers to the other kind of campaign are late.
      const awaited = raft.role === 'preCandidate' ? 'preVoteResp' : 'voteResp'
      if (message.type === awaited) onVoteResponse(raft, message)
      return 'ok'
    }
    case 'timeoutNow':
      tellTimeoutNow(raft, message.from, false)
      return 'ok'
    default:
      return message satisfies never
  }
}
