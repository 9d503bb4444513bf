/**
 * For each bug family of reference/raft.md §1.2: mistakes, and the test that must fail with each.
 * `scripts/raft-families.ts` plants and runs them; `families.test.ts` checks that nothing named
 * here is lost. A mistake that several tests notice stands here with the one that means it.
 */
import { defined } from '../../base/assert.ts'
import { MUTANTS } from '../sim/mutants.ts'
import { familyMistakes } from './family-mistakes.ts'
import type { Mutant } from '../sim/mutant.ts'

/** A mistake and the test that notices it. */
export interface Proof {
  readonly mistake: string
  /** Below `src/raft`. */
  readonly file: string
  readonly title: string
}

/** The families, by number. */
export const FAMILIES = 29

/** All mistakes that can be planted. */
export const MISTAKES: readonly Mutant[] = [...MUTANTS, ...familyMistakes]

/** The mistake of this name. */
export function mistakeNamed(name: string): Mutant | undefined {
  return MISTAKES.find((mistake) => mistake.name === name)
}

/** Test titles by file, and by title the mistakes that it must notice. */
const NOTICED: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  'core/paper-elections.test.ts': {
    '§5.2: a member votes once a term, for who asks first, and again for the same': [
      'any-vote',
      'vote-not-loaded',
      'repeated-vote-refused',
    ],
  },
  'core/paper-replication.test.ts': {
    '§5.4.1: a voter with a newer log refuses': ['log-not-compared'],
    '§5.4.2: only entries of its own term does a leader commit by counting': [
      'commits-older-terms',
    ],
    '§5.3: a follower replaces what conflicts, and keeps what an old message lacks': [
      'conflict-kept',
    ],
    '§5.3: a follower without the entry before refuses, and says where its log may match': [
      'any-predecessor',
    ],
  },
  'core/families.test.ts': {
    'a pre-vote of an earlier term is refused in the later one, which its sender adopts (bug 2)': [
      'old-pre-vote-unanswered',
    ],
    'who asks for pre-votes has forgotten its leader, and grants those of others (bug 2)': [
      'pre-candidate-keeps-leader',
    ],
    'a member with a higher term is freed by its answer to the leader of the lower one (bug 2)': [
      'old-leader-unanswered',
    ],
    'a leader whose only follower is needed by the others lets it go (bug 3)': ['no-step-down'],
    'who loses an election keeps its vote for the rest of the term (bug 4)': ['vote-forgotten'],
    'a snapshot from before the start of the log changes nothing (bug 15)': [
      'old-snapshot-installed',
    ],
    'behind a change that enlarges the quorum the old one commits nothing more (bug 21)': [
      'new-voters-not-counted',
    ],
    'the answers of a minority prove no read (bug 23)': ['read-without-quorum'],
    'the votes of others elect nobody whose own vote is not on disk (bug 28)': [
      'leads-before-own-vote',
    ],
  },
  'core/raft-core.test.ts': {
    'a long divergent tail costs one refusal a term, not one an entry (bug 8)': ['one-step-back'],
    'a follower whose window was lost is found by the next heartbeat (bug 9)': [
      'full-window-is-silent',
    ],
    'what is on its way to a follower is limited in messages and in bytes': ['window-unlimited'],
    'a follower commits no entry that the leader has not confirmed': ['commits-beyond-match'],
  },
  'core/conf-changes.test.ts': {
    'a learner gets everything, counts for nothing, and does not campaign': ['learner-campaigns'],
    'one configuration change at a time, and none before a new leader has caught up (bug 18)': [
      'change-before-own-commit',
      'changes-overlap',
    ],
    'a joint configuration needs both majorities, to commit and to elect': [
      'joint-commit-by-one-half',
      'joint-vote-by-one-half',
    ],
    'several changes at once enter a joint configuration, and it is left again': [
      'joint-never-left',
    ],
    'nobody campaigns with a committed configuration change that is not applied (bug 20)': [
      'campaign-with-unapplied-change',
    ],
  },
  'core/reads.test.ts': {
    'a read waits for the first commit of its leader (bug 22)': [
      'reads-before-first-commit',
      'lone-voter-reads-at-once',
      'no-empty-entry',
    ],
    'a late answer to one read confirms no later one (bug 23)': ['read-round-reused'],
    'a follower passes reads on, and takes no answer of an earlier life': [
      'forwarded-read-numbers-reused',
    ],
    'a transfer ends the lease for the rest of the term, even if it fails (bug 24)': [
      'lease-outlives-transfer',
    ],
  },
  'core/storage.test.ts': {
    'a follower behind the log gets a snapshot, then the rest; a lost one is sent again': [
      'no-snapshot-when-compacted',
      'snapshot-failure-ignored',
    ],
    'a completion of a write that was overtaken makes nothing durable (bug 12)': [
      'completion-of-old-term',
    ],
    'within a term, too, a completion counts only for the entry that was written': [
      'completion-of-replaced-entries',
    ],
    'a log with another term at the snapshot is dropped as a whole (bug 14)': [
      'snapshot-over-other-log',
    ],
    'votes and acknowledgements wait for the write that they promise (bug 28)': [
      'vote-before-sync',
    ],
  },
  'core/transfer.test.ts': {
    'a transfer that fails is given up after an election timeout (bug 26)': [
      'transfer-never-given-up',
    ],
    'the target is brought up to date first, also when a follower asks': ['transfer-to-one-behind'],
    'leadership is handed over at once, and the old leader follows': ['writes-during-transfer'],
  },
  'core/properties.test.ts': {
    'the committed index is the highest that more than half of each half has': ['half-is-a-quorum'],
    'an election is decided when no vote that is missing can change it': ['half-elects'],
    'old and new configuration of a change always have a member in common quorums': [
      'simple-change-of-many',
    ],
  },
  'testing/scripts.test.ts': {
    "etcd's 383 cases in testdata pass byte for byte": [
      'learner-does-not-vote',
      'window-never-freed',
      'own-copy-counts-at-once',
    ],
    'own script, of what the given ones leave out: answer to heartbeat ends probing': [
      'idle-follower-stays-probed',
    ],
  },
  'runtime/append-writer.test.ts': {
    'a vote without a new term is written before its answer leaves, too (bug 5)': [
      'vote-not-written',
    ],
    'after a failed write nothing is answered and nothing is written any more': [
      'goes-on-after-failed-write',
    ],
    'one write is in flight, and what gathers meanwhile is the next one': [
      'acknowledged-before-sync',
      'two-writes-at-once',
    ],
  },
  'runtime/recovery.test.ts': {
    'a snapshot beyond the log or of another term replaces the log': ['log-not-aligned'],
    'a log without its beginning and without a snapshot is corrupt': [
      'log-without-beginning-opened',
    ],
  },
  'runtime/proposals.test.ts': {
    'what has timed out before it was handed over is not proposed': ['withdrawn-batch-proposed'],
  },
  'runtime/raft.test.ts': {
    'a member that was cut off does not disturb the leader when it returns': ['no-pre-vote'],
    'a proposal that another leader replaced is reported as without effect': [
      'answer-of-another-entry',
    ],
    'a proposal whose entry outlived its leader is answered with its result': [
      'refused-though-in-the-log',
    ],
  },
  'runtime/membership.test.ts': {
    'a leader that removes itself makes room for another': ['removed-leader-stays'],
  },
  'runtime/snapshots.test.ts': {
    'a follower and a new learner that are far behind get a snapshot': ['empty-log-not-aligned'],
    'a slow transfer is not overtaken by newer snapshots: one is enough': ['snapshot-not-pinned'],
    'after a cold boot alone a member applies all that it knew to be committed': [
      'commit-never-written',
    ],
  },
  'runtime/reads.test.ts': {
    'a leader that was stopped for longer than its lease finds it over at the read': [
      'lease-not-looked-at',
    ],
  },
  'runtime/raft-calls.test.ts': {
    'a hand-over that a lost quorum interrupts is forgotten with its term': [
      'transfer-outlives-its-term',
    ],
  },
  'storage/storage.test.ts': {
    'a damaged batch is corruption, wherever it is: it was acknowledged': ['checksum-not-compared'],
    'a gap and a missing tail are corruption': ['gap-not-noticed'],
    'an older state of the database betrays that acknowledged writes are lost': [
      'lost-tail-not-noticed',
    ],
  },
  'storage/synced-writes.test.ts': {
    'LevelDB is asked for one synced batch a write, with term and vote in it': [
      'vote-in-a-second-write',
      'written-without-sync',
    ],
    'segments of the file log are open for synchronous writes': ['segment-without-sync'],
  },
}

/** Every mistake with its test, by family. */
export const PROOFS: readonly Proof[] = Object.entries(NOTICED)
  .flatMap(([file, titles]) =>
    Object.entries(titles).flatMap(([title, mistakes]) =>
      mistakes.map((mistake) => ({ mistake, file, title })),
    ),
  )
  .toSorted((a, b) => familyOf(a) - familyOf(b))

/** The family of a proof's mistake. */
export function familyOf({ mistake }: Proof): number {
  return defined(mistakeNamed(mistake), `the mistake "${mistake}"`).family
}

/** A row of `docs/raft-families.md`. */
export function describeProof({ mistake, file, title }: Proof): string {
  const { family, mistake: what } = defined(mistakeNamed(mistake), `the mistake "${mistake}"`)
  return `| ${family} | \`${mistake}\`: ${what} | \`${file}\`: ${title} |`
}
