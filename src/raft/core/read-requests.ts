/**
 * The leader's answers to reads; `reads.ts` keeps the proof. Source: Ongaro §6.4, etcd-io/raft
 * `raft.go`.
 */
import type { Index } from './entry.ts'
import type { ReadIndexRequest } from './message.ts'
import type { LeaderState, Raft } from './raft.ts'
import { MAX_WAITING_READS, type PendingRead } from './reads.ts'
import { broadcastHeartbeat, committedInTerm } from './replication.ts'

/** A read, of this member or passed on by a follower. */
export function onReadIndex(raft: Raft, leader: LeaderState, message: ReadIndexRequest): void {
  const read = { from: message.from, context: message.context }
  if (committedInTerm(raft)) {
    serve(raft, leader, [read])
    return
  }
  leader.earlyReads.push(read)
  if (leader.earlyReads.length > MAX_WAITING_READS) leader.earlyReads.shift()
}

/** Takes up the reads that waited for the first commit of this term. To call after every commit. */
export function serveEarlyReads(raft: Raft, leader: LeaderState): void {
  if (leader.earlyReads.length === 0 || !committedInTerm(raft)) return
  const reads = leader.earlyReads
  leader.earlyReads = []
  serve(raft, leader, reads)
}

/** Answers what is proven by now. To call after a heartbeat's answer and when the voters change. */
export function answerConfirmed(raft: Raft, leader: LeaderState): void {
  for (const read of leader.reads.confirm(raft.tracker.membership.voters, raft.id))
    answer(raft, read, read.index)
}

/**
 * The round that a regular heartbeat carries: a new one for the lease, else what reads wait for.
 */
export function roundOfBeat(raft: Raft, leader: LeaderState): number {
  if (raft.options.readOnly === 'lease') return leader.reads.openRound(raft.now)
  return leader.reads.pendingRound
}

function serve(raft: Raft, leader: LeaderState, reads: readonly PendingRead[]): void {
  const index = raft.log.committed
  const { readOnly, leaseTicks } = raft.options
  const leased = readOnly === 'lease' && leader.reads.holdsLease(raft.now, leaseTicks)
  const { voters } = raft.tracker.membership
  if (leased || (voters.isSingleton && voters.has(raft.id))) {
    for (const read of reads) answer(raft, read, index)
    return
  }
  const round = leader.reads.openRound(raft.now)
  for (const read of reads) leader.reads.add(read, index)
  const { heartbeatTicks, learnerHeartbeatTicks } = raft.options
  broadcastHeartbeat(raft, round, learnerHeartbeatTicks <= heartbeatTicks)
}

function answer(raft: Raft, { from, context }: PendingRead, index: Index): void {
  if (from === raft.id) raft.readStates.push({ index, context })
  else raft.send({ type: 'readIndexResp', ...raft.head(from), index, context })
}
