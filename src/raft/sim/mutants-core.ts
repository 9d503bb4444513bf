/** Mistakes in elections, replication, reads and transfers. */
import type { Mutant } from './mutant.ts'

/** See `mutants.ts`. */
export const coreMutants: readonly Mutant[] = [
  {
    name: 'no-pre-vote',
    family: 1,
    mistake: 'a member that was cut off comes back with a higher term and deposes the leader',
    patches: [
      { file: 'runtime/core-settings.ts', find: 'preVote: true', replace: 'preVote: false' },
    ],
  },
  {
    name: 'old-pre-vote-unanswered',
    family: 2,
    mistake: 'a pre-vote of a lower term is not answered, so its sender never learns the term',
    patches: [{ file: 'core/step.ts', find: 'refuseOldPreVote(raft, message)', replace: '' }],
  },
  {
    name: 'old-leader-unanswered',
    family: 2,
    mistake: 'a leader of a lower term is not told of the higher one',
    patches: [{ file: 'core/step.ts', find: 'sendAcceptance(raft, from, 0)', replace: '' }],
  },
  {
    name: 'no-step-down',
    family: 3,
    mistake: 'a leader without a quorum goes on and keeps those that it reaches from voting',
    patches: [
      { file: 'core/leader.ts', find: '!raft.tracker.quorumActive()', replace: 'raft.id === 0' },
    ],
  },
  {
    name: 'vote-forgotten',
    family: 4,
    mistake: 'stepping down within a term erases the vote',
    patches: [{ file: 'core/raft.ts', find: 'if (term !== this.term) {', replace: '{' }],
  },
  {
    name: 'any-vote',
    family: 4,
    mistake: 'a second candidate of a term gets a vote, too',
    patches: [
      { file: 'core/elections.ts', find: 'const granted = mayVote &&', replace: 'const granted =' },
    ],
  },
  {
    name: 'log-not-compared',
    family: 4,
    mistake: 'a candidate with a shorter log gets votes',
    patches: [
      {
        file: 'core/elections.ts',
        find: '&& raft.log.isUpToDate({ term: logTerm, index })',
        replace: '&& (logTerm >= 0 || index > 0)',
      },
    ],
  },
  {
    name: 'vote-not-loaded',
    family: 5,
    mistake: 'a restarted member has forgotten its vote',
    patches: [{ file: 'core/raft.ts', find: 'this.vote = hard.vote', replace: '' }],
  },
  {
    name: 'repeated-vote-refused',
    family: 6,
    mistake: 'the candidate that has the vote already is refused when it asks again',
    patches: [{ file: 'core/elections.ts', find: 'raft.vote === from ||', replace: '' }],
  },
  {
    name: 'learner-does-not-vote',
    family: 7,
    mistake: 'a learner that was promoted and does not know it does not vote',
    patches: [
      {
        file: 'core/elections.ts',
        find: 'const granted = mayVote &&',
        replace: 'const granted = mayVote && raft.promotable &&',
      },
    ],
  },
  {
    name: 'one-step-back',
    family: 8,
    mistake: 'a leader goes back entry by entry through a long divergent tail',
    patches: [
      {
        file: 'core/leader.ts',
        find: 'progress.maybeDecrease(index, probe)',
        replace: 'progress.maybeDecrease(index, index - 1)',
      },
    ],
  },
  {
    name: 'window-never-freed',
    family: 9,
    mistake: 'acknowledgements do not free the window',
    patches: [{ file: 'core/leader.ts', find: 'progress.inflights.freeTo(index)', replace: '' }],
  },
  {
    name: 'no-snapshot-when-compacted',
    family: 9,
    mistake: 'a member that needs compacted entries is sent nothing',
    patches: [
      {
        file: 'core/replication.ts',
        find: "if (logTerm === 'compacted') return maybeSendSnapshot(raft, to, progress)",
        replace: "if (logTerm === 'compacted') return false",
      },
    ],
  },
  {
    name: 'window-unlimited',
    family: 10,
    mistake: 'any number of messages is on its way to a member that does not answer',
    patches: [
      {
        file: 'core/inflights.ts',
        find: 'return this.count >= this.#maxMessages || this.#bytes >= this.#maxBytes',
        replace: 'return this.#maxMessages < 0 || this.#bytes >= 2 * this.#maxBytes',
      },
    ],
  },
  {
    name: 'commits-older-terms',
    family: 11,
    mistake: 'entries of earlier terms are committed by counting (Raft, figure 8)',
    patches: [
      {
        file: 'core/replication.ts',
        find: 'return raft.log.maybeCommit({ term: raft.term, index: raft.tracker.committedIndex() })',
        replace:
          'const index = raft.tracker.committedIndex()\n' +
          '  return raft.log.maybeCommit({ term: raft.log.termOrZero(index), index })',
      },
    ],
  },
  {
    name: 'commits-though-refused',
    family: 11,
    mistake:
      'a follower commits what the leader committed, though it may hold something else there',
    patches: [
      {
        file: 'core/append-handler.ts',
        find: "  raft.tell({\n    type: 'appendRefused',",
        replace:
          '  raft.log.commitTo(Math.min(commit, raft.log.lastIndex))\n' +
          "  raft.tell({\n    type: 'appendRefused',",
      },
    ],
  },
  {
    name: 'heartbeat-beyond-match',
    family: 11,
    mistake: 'heartbeats tell the commit index to members that may not hold the entries',
    patches: [
      {
        file: 'core/replication.ts',
        find: 'const commit = Math.min(progress.match, raft.log.committed)',
        replace: 'const commit = raft.log.committed',
      },
    ],
  },
  {
    name: 'any-predecessor',
    family: 12,
    mistake: 'entries are appended behind an entry of another term',
    patches: [
      {
        file: 'core/raft-log.ts',
        find: 'if (!this.matches(previous)) return undefined',
        replace: 'if (previous.index > this.lastIndex) return undefined',
      },
    ],
  },
  {
    name: 'conflict-kept',
    family: 12,
    mistake: 'entries that conflict with the leader are kept',
    patches: [
      {
        file: 'core/raft-log.ts',
        find: 'if (this.matches({ index, term })) continue',
        replace: 'if (index <= this.lastIndex || this.matches({ index, term })) continue',
      },
    ],
  },
  {
    name: 'completion-of-replaced-entries',
    family: 12,
    mistake: 'a write counts as done though its entries were replaced meanwhile',
    patches: [
      {
        file: 'core/unstable.ts',
        find: "if (term !== id.term) return this.#ignoreStable(id, 'mismatch', term)",
        replace: '',
      },
      {
        file: 'core/step.ts',
        find: "if (message.index !== 0) tellIgnored(raft, 'staleAppendIgnored', message)",
        replace: 'onStorageAppended(raft, { ...message, snapshot: undefined } as never)',
      },
    ],
  },
  {
    name: 'completion-of-later-entries',
    family: 12,
    mistake: 'a finished write counts for the entries behind it, too',
    patches: [
      {
        file: 'core/step.ts',
        find: 'if (index !== 0) raft.log.unstable.stableTo({ index, term: logTerm })',
        replace: 'if (index !== 0 && logTerm > 0) raft.log.unstable.stableTo(raft.log.last)',
      },
    ],
  },
  {
    name: 'own-copy-counts-at-once',
    family: 28,
    mistake: 'a leader counts its own entry before that is durable',
    patches: [
      {
        file: 'core/replication.ts',
        find: '  sendAcceptance(raft, raft.id, raft.log.lastIndex)',
        replace:
          '  raft.tracker.progress(raft.id)?.maybeUpdate(raft.log.lastIndex)\n' +
          '  sendAcceptance(raft, raft.id, raft.log.lastIndex)',
      },
    ],
  },
  {
    name: 'leads-before-own-vote',
    family: 28,
    mistake: 'a candidate leads by the votes of others while its own is still being written',
    patches: [
      {
        file: 'core/elections.ts',
        find: 'else if (mayLead(raft)) lead(raft)',
        replace: 'else lead(raft)',
      },
    ],
  },
  {
    name: 'vote-before-sync',
    family: 28,
    mistake: 'a vote is answered before it is durable',
    patches: [{ file: 'core/raft.ts', find: "type === 'voteResp' || ", replace: '' }],
  },
  {
    name: 'stale-snapshot-installed',
    family: 15,
    mistake: 'a snapshot that the log has passed is installed',
    patches: [
      {
        file: 'core/append-handler.ts',
        find: 'if (index <= raft.log.committed) return false',
        replace: 'if (index < 0) return false',
      },
    ],
  },
  {
    name: 'snapshot-over-other-log',
    family: 14,
    mistake: 'a snapshot leaves a log alone that holds another term at its place',
    patches: [
      {
        file: 'core/append-handler.ts',
        find: 'if (raft.log.matches({ index, term })) {',
        replace: 'if (index <= raft.log.lastIndex) {',
      },
    ],
  },
  {
    name: 'reads-before-first-commit',
    family: 22,
    mistake: 'a new leader names a read index before it has committed anything',
    patches: [
      {
        file: 'core/read-requests.ts',
        find: 'if (committedInTerm(raft)) {\n    serve(',
        replace: 'if (raft.term > 0) {\n    serve(',
      },
    ],
  },
  {
    name: 'read-round-reused',
    family: 23,
    mistake: 'rounds of heartbeats have one number, so that late answers confirm later reads',
    patches: [
      { file: 'core/reads.ts', find: 'this.#round += 1\n', replace: 'this.#round = 1\n' },
      {
        file: 'core/reads.ts',
        find: 'if (confirmed <= this.#confirmed) return []',
        replace: 'if (confirmed < this.#confirmed) return []',
      },
    ],
  },
  {
    name: 'read-without-quorum',
    family: 23,
    mistake: 'the answer of one member confirms a read',
    patches: [
      {
        file: 'core/reads.ts',
        find: 'const confirmed = Math.min(quorum, this.#round)',
        replace: 'const confirmed = quorum < 0 ? quorum : this.#round',
      },
    ],
  },
  {
    name: 'transfer-never-given-up',
    family: 26,
    mistake: 'a transfer that does not succeed is never given up: no more writes',
    patches: [
      {
        file: 'core/ticking.ts',
        find: 'if (raft.leader === leader && leader.transferee !== NO_PEER) {',
        replace: 'if (raft.leader === leader && leader.transferee < NO_PEER) {',
      },
    ],
  },
  {
    name: 'transfer-to-one-behind',
    family: 27,
    mistake: 'the target of a transfer is told to campaign before it has everything',
    patches: [
      {
        file: 'core/transfer.ts',
        find: 'if (progress.match < raft.log.lastIndex) {',
        replace: 'if (progress.match < 0) {',
      },
    ],
  },
]
