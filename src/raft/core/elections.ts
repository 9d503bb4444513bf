/**
 * Elections: campaigning, voting, counting. Source: Raft §5.2, §5.4.1; Ongaro §9.6 (pre-vote),
 * §4.2.3 (leader stickiness); etcd-io/raft `raft.go` (`hup`, `campaign`, `poll`), in its semantics.
 */
import { NO_PEER, type EntryId } from './entry.ts'
import type { VoteRequest, VoteResponse } from './message.ts'
import type { Raft } from './raft.ts'
import { appendEntries, broadcastAppend } from './replication.ts'

/** How a campaign begins. `transfer`: the leader asked for it, so stickiness does not apply. */
export type CampaignKind = 'preVote' | 'vote' | 'transfer'

/** How this member campaigns of its own accord. */
export function ownKind(raft: Raft): CampaignKind {
  return raft.options.preVote ? 'preVote' : 'vote'
}

/**
 * Starts a campaign, unless this member leads, may not lead, or has yet to apply a committed
 * configuration change: it would count votes in a configuration that is no longer the latest (bug
 * 20).
 */
export function hup(raft: Raft, kind: CampaignKind): void {
  const reason = refusal(raft)
  if (reason !== undefined) {
    raft.tell({ type: 'campaignRefused', reason, term: raft.term })
    return
  }
  raft.tell({ type: 'electionStarted', term: raft.term })
  campaign(raft, kind)
}

function refusal(raft: Raft): 'leader' | 'unpromotable' | 'unappliedConfChange' | undefined {
  if (raft.role === 'leader') return 'leader'
  if (!raft.promotable) return 'unpromotable'
  const { applied, committed } = raft.log
  if (raft.log.changesConf(applied, committed)) return 'unappliedConfChange'
  return undefined
}

function campaign(raft: Raft, kind: CampaignKind): void {
  const asking = kind === 'preVote'
  if (asking) raft.becomePreCandidate()
  else raft.becomeCandidate()
  const term = asking ? raft.term + 1 : raft.term
  const last = raft.log.last
  for (const to of raft.tracker.membership.voters.ids) {
    const head = { from: raft.id, to, term }
    if (to === raft.id) {
      // Counted when it comes back, after the vote is on disk.
      raft.send({ type: asking ? 'preVoteResp' : 'voteResp', ...head, reject: false })
      continue
    }
    const type = asking ? 'preVote' : 'vote'
    raft.tell({ type: 'voteRequested', kind: type, to, last, term: raft.term })
    const transfer = kind === 'transfer'
    const committed = commitNews(raft)
    raft.send({ type, ...head, logTerm: last.term, index: last.index, transfer, committed })
  }
}

/** Whether a request is to be ignored, term and all, because a leader was heard of just now. */
export function ignoresVote(raft: Raft, request: VoteRequest): boolean {
  if (request.transfer || !raft.inLease) return false
  tellAnswer(raft, request, 'ignored')
  return true
}

/** Refuses a pre-vote of an earlier term, so that its sender learns of this one. */
export function refuseOldPreVote(raft: Raft, request: VoteRequest): void {
  tellAnswer(raft, request, 'refused')
  const committed = commitNews(raft)
  raft.send({ type: 'preVoteResp', ...raft.head(request.from), reject: true, committed })
}

/**
 * Votes. A learner votes too: the candidate knows a configuration in which it is a voter (bug 7),
 * and who asks again is answered again (bug 6).
 */
export function onVoteRequest(raft: Raft, request: VoteRequest): void {
  const { type, from, term, index, logTerm } = request
  const mayVote =
    raft.vote === from ||
    (raft.vote === NO_PEER && raft.lead === NO_PEER) ||
    (type === 'preVote' && term > raft.term)
  const granted = mayVote && raft.log.isUpToDate({ term: logTerm, index })
  tellAnswer(raft, request, granted ? 'granted' : 'refused')
  const answer = type === 'vote' ? 'voteResp' : 'preVoteResp'
  if (!granted) {
    const committed = commitNews(raft)
    raft.send({ type: answer, ...raft.head(from), reject: true, committed })
    return
  }
  // In the request's term, which for a pre-vote is not this member's.
  raft.send({ type: answer, from: raft.id, to: from, term, reject: false })
  if (type === 'vote') {
    raft.electionElapsed = 0
    raft.vote = from
  }
}

/** Counts a vote for this candidate, and acts on the outcome. */
export function onVoteResponse(raft: Raft, { type, from, reject }: VoteResponse): void {
  raft.tell({ type: 'voteReceived', kind: type, from, granted: !reject, term: raft.term })
  if (!raft.votes.has(from)) raft.votes.set(from, !reject)
  tellCount(raft, type)
  switch (raft.tracker.membership.voters.voteResult(raft.votes)) {
    case 'won':
      if (raft.role === 'preCandidate') campaign(raft, 'vote')
      else if (mayLead(raft)) lead(raft)
      break
    case 'lost':
      raft.becomeFollower(raft.term, NO_PEER)
      break
    case 'pending':
      break
  }
}

/**
 * Learns what is committed from a vote request or its answer, if that changes the configuration.
 * Since a configuration is in force only once applied, a leader may demote or remove itself, and
 * stop, before the others know that this is committed; they would need its vote, which their
 * shorter logs do not get (found by `chaos-run.ts`; etcd-io/etcd#12359; raft-rs
 * `maybe_commit_by_vote`). What is committed is so for ever, in whatever term it is told. A
 * campaign in the old configuration ends.
 */
export function learnCommit(raft: Raft, known: EntryId | undefined): void {
  const { log, options } = raft
  if (!options.informVoters || known === undefined || raft.leader !== undefined) return
  if (known.index <= log.committed) return
  if (!log.matches(known) || !log.changesConf(log.committed, known.index)) return
  log.commitTo(known.index)
  if (raft.role !== 'follower') raft.becomeFollower(raft.term, NO_PEER)
}

/**
 * A member that may not campaign and hears no leader asks for pre-votes that it has no use for, so
 * that voters learn what it knows: perhaps that they are the voters now.
 */
export function informVoters(raft: Raft): void {
  const last = raft.log.last
  const committed = commitNews(raft)
  for (const to of raft.tracker.membership.voters.ids) {
    if (to === raft.id) continue
    const head = { from: raft.id, to, term: raft.term + 1 }
    const position = { logTerm: last.term, index: last.index }
    raft.send({ type: 'preVote', ...head, ...position, transfer: false, committed })
  }
}

function commitNews({ log }: Raft): EntryId {
  return { index: log.committed, term: log.termOrZero(log.committed) }
}

/**
 * Not before its own vote is on disk, though the others suffice: after a crash it would be elected
 * in this term once more, with another log (found by the simulator, seed 2080).
 */
function mayLead(raft: Raft): boolean {
  return raft.options.leadsBeforeOwnVote || raft.votes.has(raft.id)
}

/** Begins to lead with an empty entry, which commits what earlier terms left (Raft §8). */
function lead(raft: Raft): void {
  const leader = raft.becomeLeader()
  appendEntries(raft, leader, [{ type: 'normal', data: new Uint8Array() }])
  broadcastAppend(raft)
}

function tellCount(raft: Raft, kind: VoteResponse['type']): void {
  let granted = 0
  let rejected = 0
  for (const [id, progress] of raft.tracker.entries()) {
    const vote = progress.isLearner ? undefined : raft.votes.get(id)
    if (vote === true) granted += 1
    if (vote === false) rejected += 1
  }
  raft.tell({ type: 'votesCounted', kind, granted, rejected })
}

function tellAnswer(
  raft: Raft,
  request: VoteRequest,
  decision: 'granted' | 'refused' | 'ignored',
): void {
  raft.tell({
    type: 'voteAnswered',
    decision,
    kind: request.type,
    candidate: request.from,
    candidateLast: { term: request.logTerm, index: request.index },
    last: raft.log.last,
    vote: raft.vote,
    term: raft.term,
    leaseTicks: raft.options.electionTicks - raft.electionElapsed,
  })
}
