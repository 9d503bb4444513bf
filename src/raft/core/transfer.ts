/**
 * Hand-over of leadership: the leader stops taking proposals, brings the target up to date, and
 * tells it to campaign at once. Given up after one election timeout. Source: Ongaro §3.10,
 * etcd-io/raft `raft.go`.
 */
import { NO_PEER, type PeerId } from './entry.ts'
import type { Progress } from './progress.ts'
import type { LeaderState, Raft } from './raft.ts'
import { sendAppend } from './replication.ts'

/** Starts to hand leadership to `to`; a transfer to someone else is given up for it. */
export function startTransfer(
  raft: Raft,
  leader: LeaderState,
  target: { readonly to: PeerId; readonly progress: Progress },
): void {
  const { to, progress } = target
  const previous = leader.transferee
  if (progress.isLearner) return tell(raft, 'toLearner', to)
  if (previous === to) return tell(raft, 'repeated', to)
  if (previous !== NO_PEER) {
    leader.transferee = NO_PEER
    tell(raft, 'replaced', previous)
  }
  if (to === raft.id) return tell(raft, 'toSelf', to)
  tell(raft, 'started', to)
  // The target will be voted for in spite of leases, now or whenever its message arrives.
  leader.reads.forfeitLease()
  raft.electionElapsed = 0
  leader.transferee = to
  if (progress.match < raft.log.lastIndex) {
    sendAppend(raft, to, progress)
    return undefined
  }
  sendTimeoutNow(raft, to)
  tell(raft, 'upToDate', to)
  return undefined
}

/** `from` has acknowledged more: if it is the target and has everything, its time has come. */
export function maybeFinishTransfer(raft: Raft, leader: LeaderState, from: PeerId): void {
  if (leader.transferee !== from) return
  if (raft.tracker.progress(from)?.match !== raft.log.lastIndex) return
  tell(raft, 'caughtUp', from)
  sendTimeoutNow(raft, from)
}

function sendTimeoutNow(raft: Raft, to: PeerId): void {
  raft.send({ type: 'timeoutNow', ...raft.head(to) })
}

type Phase = 'started' | 'repeated' | 'replaced' | 'toSelf' | 'toLearner' | 'upToDate' | 'caughtUp'

function tell(raft: Raft, phase: Phase, peer: PeerId): void {
  raft.tell({ type: 'transfer', phase, peer, term: raft.term })
}
