/** Mistakes in leases, and in what a lone voter may answer after a restart. */
import type { Mutant } from './mutant.ts'

/** See `mutants.ts`. */
export const leaseMutants: readonly Mutant[] = [
  {
    name: 'lease-outlives-transfer',
    family: 24,
    mistake: 'a lease goes on after its leader has told another to campaign',
    patches: [{ file: 'core/transfer.ts', find: '  leader.reads.forfeitLease()\n', replace: '' }],
  },
  {
    name: 'lease-by-wall-clock',
    family: 24,
    mistake: 'a lease is measured on the wall clock, which somebody sets back',
    patches: [
      {
        file: 'runtime/lease.ts',
        find: 'const nowMs = this.#components.clock.monotonicMs()',
        replace: 'const nowMs = this.#components.clock.wallMs()',
      },
      {
        file: 'runtime/driver.ts',
        find: 'const startMs = this.#components.clock.monotonicMs()',
        replace: 'const startMs = this.#components.clock.wallMs()',
      },
    ],
  },
  {
    name: 'lease-checked-by-timer',
    family: 24,
    mistake: 'whether the lease holds is looked at by a timer, not at the read',
    patches: [
      {
        file: 'runtime/lease.ts',
        find: '    const nowMs = this.#components.clock.monotonicMs()\n',
        replace: '    const nowMs = lookedMs.get(this.#lease) ?? 0\n',
      },
      {
        file: 'runtime/lease.ts',
        find: '    if (!leaseReads) return\n',
        replace: '    if (!leaseReads) return\n    lookedMs.set(this.#lease, startMs)\n',
      },
      {
        file: 'runtime/lease.ts',
        find: '/** How long a lease lasts',
        replace: 'const lookedMs = new WeakMap<Lease, number>()\n\n/** How long a lease lasts',
      },
    ],
  },
  {
    name: 'lease-twice-as-long',
    family: 24,
    mistake: 'a lease lasts as long as the longest election timeout that is drawn',
    patches: [
      {
        file: 'runtime/lease.ts',
        find: 'return Math.max(0, electionTicks - EDGE_TICKS) * tickMs * (1 - DRIFT_PART)',
        replace: 'return (2 * electionTicks - EDGE_TICKS) * tickMs * (1 - DRIFT_PART)',
      },
    ],
  },
  {
    name: 'lease-without-margins',
    family: 24,
    mistake: 'a lease lasts an election timeout, with nothing off for ticks and drift',
    patches: [
      {
        file: 'runtime/lease.ts',
        find: 'return Math.max(0, electionTicks - EDGE_TICKS) * tickMs * (1 - DRIFT_PART)',
        replace:
          'return Math.max(0, electionTicks - 0 * EDGE_TICKS) * tickMs * (1 - 0 * DRIFT_PART)',
      },
    ],
  },
  {
    name: 'bounded-from-the-answer',
    family: 24,
    mistake: 'the age of a state counts from the answer that proves it, not from the question',
    patches: [
      {
        file: 'runtime/reads.ts',
        find: 'this.freshness.note(asked.askedAtMs, index)',
        replace: 'this.freshness.note(this.#clock.monotonicMs(), index)',
      },
    ],
  },
  {
    name: 'bounded-not-applied',
    family: 24,
    mistake: 'an answer proves the age of a state that has not applied it',
    patches: [
      {
        file: 'runtime/freshness.ts',
        find: 'index <= appliedIndex',
        replace: 'index > 0 || appliedIndex > 0',
      },
    ],
  },
  {
    name: 'lease-from-the-answer',
    family: 24,
    mistake: 'a lease counts from the answer of a round, not from its sending',
    patches: [
      {
        file: 'runtime/lease.ts',
        find: 'const start = this.#sent.findLast(({ round }) => round <= rounds.confirmedRound)',
        replace:
          'const confirmed = rounds.confirmedRound\n' +
          '    if ((seen.get(rounds)?.confirmed ?? 0) < confirmed)\n' +
          '      seen.set(rounds, { confirmed, atMs: nowMs })\n' +
          '    const start = seen.get(rounds)',
      },
      {
        file: 'runtime/lease.ts',
        find: '/** What a lease is measured with. */',
        replace:
          'const seen = new WeakMap<LeaseRounds, { confirmed: number; atMs: number }>()\n\n' +
          '/** What a lease is measured with. */',
      },
    ],
  },
  {
    name: 'lease-forgotten-at-restart',
    family: 24,
    mistake: 'a restarted voter votes at once, though it may have granted a lease',
    patches: [
      {
        file: 'core/raft.ts',
        find: 'this.#silentUntil = this.options.electionTicks',
        replace: 'this.#silentUntil = 0',
      },
    ],
  },
  {
    name: 'lease-forgotten-with-connection',
    family: 24,
    mistake: 'a follower whose connection to the leader broke votes, in spite of the lease',
    patches: [
      {
        file: 'core/follower.ts',
        find:
          "  if (raft.options.readOnly === 'lease') {\n" +
          "    raft.tell({ type: 'forgetLeaderRefused' })",
        replace: "  if (raft.lead === NO_PEER) {\n    raft.tell({ type: 'forgetLeaderRefused' })",
      },
    ],
  },
  {
    name: 'lease-before-first-commit',
    family: 24,
    mistake: 'a new leader answers by lease before it has committed anything',
    patches: [
      {
        file: 'core/raft-core.ts',
        find: 'return committedInTerm(this.#raft) ? leader.reads : undefined',
        replace: 'return leader.reads',
      },
    ],
  },
  {
    name: 'lease-read-not-applied',
    family: 24,
    mistake: 'a read by lease does not wait for what is committed to be applied',
    patches: [
      {
        file: 'runtime/raft.ts',
        find: 'await this.waitApplied(this.commitIndex, call)',
        replace: 'await this.waitApplied(0 * this.commitIndex, call)',
      },
    ],
  },
  {
    name: 'only-voter-reads-at-once',
    family: 25,
    mistake: 'a lone voter names a read index after a restart before it has committed anything',
    patches: [
      {
        file: 'core/read-requests.ts',
        find: '  if (committedInTerm(raft)) {\n    serve(raft, leader, [read])',
        replace:
          '  if (committedInTerm(raft) || raft.tracker.membership.voters.isSingleton) {\n' +
          '    serve(raft, leader, [read])',
      },
    ],
  },
  {
    name: 'only-voter-holds-lease-at-once',
    family: 25,
    mistake: 'a lone voter has its lease from the start, before it knows what is committed',
    patches: [
      {
        file: 'runtime/lease.ts',
        find:
          '    if (!leaseReads || leaseRounds === undefined) return false\n' +
          '    if (isOnlyVoter) return true\n',
        replace:
          '    if (leaseReads && isOnlyVoter) return true\n' +
          '    if (!leaseReads || leaseRounds === undefined) return false\n',
      },
    ],
  },
]
