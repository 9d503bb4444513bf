/** Logical time: election timeouts, heartbeats, quorum checks. Source: etcd-io/raft `raft.go`. */
import { maybeLeaveJoint } from './applied.ts'
import { hup, informVoters, ownKind } from './elections.ts'
import { NO_PEER } from './entry.ts'
import type { LeaderState, Raft } from './raft.ts'
import { step } from './step.ts'

/** One tick has passed. */
export function tick(raft: Raft): void {
  raft.now += 1
  raft.electionElapsed += 1
  if (raft.leader !== undefined) {
    tickLeader(raft, raft.leader)
    return
  }
  if (raft.electionElapsed < raft.electionTimeout) return
  if (raft.promotable) {
    raft.electionElapsed = 0
    hup(raft, ownKind(raft))
  } else if (raft.options.informVoters) {
    raft.electionElapsed = 0
    // Not heard for so long: it holds no lease any more, and must not seem to by the line above.
    raft.lead = NO_PEER
    informVoters(raft)
  }
}

function tickLeader(raft: Raft, leader: LeaderState): void {
  const { electionTicks, heartbeatTicks, checkQuorum } = raft.options
  raft.heartbeatElapsed += 1
  if (raft.electionElapsed >= electionTicks) {
    raft.electionElapsed = 0
    if (checkQuorum) step(raft, local(raft, 'checkQuorum'))
    if (raft.leader === leader && leader.transferee !== NO_PEER) {
      leader.transferee = NO_PEER
      maybeLeaveJoint(raft)
    }
  }
  if (raft.leader === leader && raft.heartbeatElapsed >= heartbeatTicks) {
    raft.heartbeatElapsed = 0
    step(raft, local(raft, 'beat'))
  }
}

/** A message of a member to itself. */
function local(
  raft: Raft,
  type: 'beat' | 'checkQuorum',
): { type: 'beat' | 'checkQuorum'; from: number; to: number; term: 0 } {
  return { type, from: raft.id, to: raft.id, term: 0 }
}
