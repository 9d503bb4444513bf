/** Mistakes in changes of membership. */
import type { Mutant } from './mutant.ts'

/** See `mutants.ts`. */
export const membershipMutants: readonly Mutant[] = [
  {
    name: 'change-before-own-commit',
    family: 18,
    mistake: 'a new leader changes the membership before its log is applied',
    patches: [
      {
        file: 'core/raft.ts',
        find: 'this.pendingConfIndex = lastIndex',
        replace: 'this.pendingConfIndex = Math.min(0, lastIndex)',
      },
      {
        file: 'runtime/raft.ts',
        find: 'await this.waitApplied(this.#driver.leadershipIndex, options)',
        replace: '',
      },
    ],
  },
  {
    name: 'changes-overlap',
    family: 18,
    mistake: 'a change is accepted while the one before is not in force',
    patches: [
      {
        file: 'core/conf-changes.ts',
        find: 'if (leader.pendingConfIndex > applied)',
        replace: 'if (leader.pendingConfIndex < 0)',
      },
      {
        file: 'runtime/raft.ts',
        find: 'if (isOpen || this.configuration.joint)',
        replace: 'if (isOpen && this.configuration.joint)',
      },
    ],
  },
  {
    name: 'joint-commit-by-one-half',
    family: 19,
    mistake: 'in a joint configuration the incoming half alone commits',
    patches: [
      {
        file: 'core/quorum.ts',
        find: 'return Math.min(this.incoming.committedIndex(acked), this.outgoing.committedIndex(acked))',
        replace: 'return this.incoming.committedIndex(acked)',
      },
    ],
  },
  {
    name: 'joint-vote-by-one-half',
    family: 19,
    mistake: 'in a joint configuration the incoming half alone elects',
    patches: [
      {
        file: 'core/quorum.ts',
        find: 'const second = this.outgoing.voteResult(votes)',
        replace: 'const second = this.incoming.voteResult(votes)',
      },
    ],
  },
  {
    name: 'joint-never-left',
    family: 19,
    mistake: 'nobody leaves a joint configuration',
    patches: [
      {
        file: 'core/applied.ts',
        find: 'if (log.applied < leader.pendingConfIndex) return',
        replace: 'if (log.applied >= 0) return',
      },
    ],
  },
  {
    name: 'simple-change-of-many',
    family: 19,
    mistake: 'several changes at once go without a joint configuration',
    patches: [
      {
        file: 'core/conf-changer.ts',
        find: "if (change.transition === 'auto' && change.changes.length === 1)",
        replace: "if (change.transition === 'auto')",
      },
      {
        file: 'core/conf-changer.ts',
        find: 'if (before.symmetricDifference(draft.incoming).size > 1)',
        replace: 'if (before.symmetricDifference(draft.incoming).size > 9)',
      },
    ],
  },
  {
    name: 'campaign-with-unapplied-change',
    family: 20,
    mistake: 'a member campaigns in a configuration that it knows to be past',
    patches: [
      {
        file: 'core/elections.ts',
        find: "if (raft.log.changesConf(applied, committed)) return 'unappliedConfChange'",
        replace: "if (applied > committed) return 'unappliedConfChange'",
      },
    ],
  },
  {
    name: 'half-is-a-quorum',
    family: 21,
    mistake: 'half of an even number of voters commits',
    patches: [
      {
        file: 'core/quorum.ts',
        find: 'this.size - (Math.floor(this.size / 2) + 1)',
        replace: 'this.size - Math.ceil(this.size / 2)',
      },
    ],
  },
  {
    name: 'half-elects',
    family: 21,
    mistake: 'half of an even number of voters elects',
    patches: [
      {
        file: 'core/quorum.ts',
        find: 'const quorum = Math.floor(this.size / 2) + 1',
        replace: 'const quorum = Math.ceil(this.size / 2)',
      },
    ],
  },
  {
    name: 'removed-leader-stays',
    family: 1,
    mistake: 'a leader that was removed goes on leading',
    patches: [
      {
        file: 'runtime/core-settings.ts',
        find: 'stepDownOnRemoval: true',
        replace: 'stepDownOnRemoval: false',
      },
    ],
  },
  {
    name: 'voters-not-informed',
    family: 20,
    mistake: 'voters do not learn that a change is committed whose leader is gone',
    patches: [
      {
        file: 'runtime/core-settings.ts',
        find: 'informVoters: true',
        replace: 'informVoters: false',
      },
    ],
  },
  {
    name: 'informer-keeps-its-lease',
    family: 2,
    mistake: 'a member that informs voters seems to hear its leader for ever',
    patches: [{ file: 'core/ticking.ts', find: 'raft.lead = NO_PEER', replace: '' }],
  },
]
