/**
 * Configuration changes: which ones a leader lets into its log, and what happens when one is
 * applied. A change is in force from its application on, not from its append (reference/raft.md
 * §2.3). Source: etcd-io/raft `raft.go` (`stepLeader` MsgProp, `applyConfChange`,
 * `switchToConfig`).
 */
import { assert } from '../../base/assert.ts'
import { isSwarmError } from '../../base/errors.ts'
import { ConfChanger, leavesJoint } from './conf-changer.ts'
import { decodeConfChange } from './conf-change-codec.ts'
import { isConfChange, NO_PEER, type ConfChange, type ConfState } from './entry.ts'
import type { ProposedEntry } from './message.ts'
import type { LeaderState, Raft } from './raft.ts'
import { answerConfirmed, serveEarlyReads } from './read-requests.ts'
import { broadcastAppend, maybeCommit, maybeSendEntries } from './replication.ts'

/** Stands in events for what could not be decoded. */
const NO_CHANGE: ConfChange = { transition: 'auto', changes: [] }

/**
 * The proposals as they may enter the log: a configuration change that is refused becomes an empty
 * entry, so that the places of the others stand. One at a time: the next waits until the last is
 * applied.
 */
export function admitConfChanges(
  raft: Raft,
  leader: LeaderState,
  proposals: readonly ProposedEntry[],
): { readonly admitted: readonly ProposedEntry[]; readonly refused: boolean } {
  if (!proposals.some(({ type }) => isConfChange(type)))
    return { admitted: proposals, refused: false }
  let refused = false
  const admitted = proposals.map((proposal, position): ProposedEntry => {
    if (!isConfChange(proposal.type)) return proposal
    const change = decoded(proposal.data)
    const reason = change === undefined ? 'it is malformed' : refusal(raft, leader, change)
    if (reason === undefined || (change && raft.options.disableConfChangeValidation)) {
      leader.pendingConfIndex = raft.log.lastIndex + position + 1
      return proposal
    }
    refused = true
    const conf = raft.tracker.confState()
    const entryType = proposal.type
    raft.tell({
      type: 'confChangeIgnored',
      entryType,
      change: change ?? NO_CHANGE,
      conf,
      reason,
    })
    return { type: 'normal', data: new Uint8Array() }
  })
  return { admitted, refused }
}

/** What a member sent may be anything; what cannot be decoded must not enter the log. */
function decoded(data: Uint8Array): ConfChange | undefined {
  try {
    return decodeConfChange(data)
  } catch (error) {
    if (isSwarmError(error, 'INVALID_ARGUMENT')) return undefined
    throw error
  }
}

function refusal(raft: Raft, leader: LeaderState, change: ConfChange): string | undefined {
  const { isJoint } = raft.tracker.membership.voters
  const { applied } = raft.log
  if (leader.pendingConfIndex > applied)
    return `possible unapplied conf change at index ${leader.pendingConfIndex} (applied to ${applied})`
  if (isJoint && !leavesJoint(change)) return 'must transition out of joint config first'
  if (!isJoint && leavesJoint(change)) return 'not in joint state; refusing empty conf change'
  const result = new ConfChanger(raft.tracker, raft.log.lastIndex).change(change)
  return result.ok ? undefined : result.reason
}

/**
 * Puts a committed change into force and returns the configuration. While a snapshot waits to be
 * installed, its configuration is in force already, and what is still applied lies before it.
 */
export function applyConfChange(raft: Raft, change: ConfChange): ConfState {
  if (raft.log.unstable.snapshot !== undefined) return raft.tracker.confState()
  const result = new ConfChanger(raft.tracker, raft.log.lastIndex).change(change)
  assert(
    result.ok,
    `a committed configuration change is invalid${result.ok ? '' : `: ${result.reason}`}`,
  )
  raft.tracker = result.tracker
  const conf = raft.tracker.confState()
  raft.tell({ type: 'configurationChanged', conf })
  const { leader } = raft
  if (leader === undefined) return conf
  const own = raft.tracker.progress(raft.id)
  if (own === undefined || own.isLearner) {
    if (raft.options.stepDownOnRemoval) raft.becomeFollower(raft.term, NO_PEER)
    return conf
  }
  onNewConfiguration(raft, leader)
  return conf
}

/** A smaller quorum may commit more and confirm reads; new members are probed without delay. */
function onNewConfiguration(raft: Raft, leader: LeaderState): void {
  if (maybeCommit(raft)) {
    serveEarlyReads(raft, leader)
    broadcastAppend(raft)
  } else {
    for (const [id, progress] of raft.tracker.entries()) {
      if (id !== raft.id) maybeSendEntries(raft, id, progress)
    }
  }
  answerConfirmed(raft, leader)
  if (!raft.tracker.membership.voters.has(leader.transferee)) leader.transferee = NO_PEER
}
