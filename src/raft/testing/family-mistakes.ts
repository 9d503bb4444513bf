/**
 * Mistakes of the bug families (reference/raft.md §1.2) that the simulator's list
 * (`../sim/mutants.ts`) leaves out: most concern what it does not simulate, leases, LevelDB, or
 * one branch only.
 */
import type { Mutant } from '../sim/mutant.ts'

/** In addition to `MUTANTS`. */
export const familyMistakes: readonly Mutant[] = [
  {
    name: 'learner-campaigns',
    family: 1,
    mistake: 'a demoted member goes on campaigning (hashicorp 524)',
    patches: [
      {
        file: 'core/raft.ts',
        find: 'return progress !== undefined && !progress.isLearner &&',
        replace: 'return progress !== undefined &&',
      },
    ],
  },
  {
    name: 'pre-candidate-keeps-leader',
    family: 2,
    mistake: 'who asks for pre-votes still counts on its leader and refuses others (etcd 8334)',
    patches: [
      {
        file: 'core/raft.ts',
        find: '    this.votes = new Map()\n    this.lead = NO_PEER\n',
        replace: '    this.votes = new Map()\n',
      },
    ],
  },
  // The runtime cannot get to these two (docs/raft-mutations.md); users of the core alone can.
  {
    name: 'commits-beyond-match',
    family: 11,
    mistake: 'a follower commits up to its own last entry, not that of the message',
    patches: [
      {
        file: 'core/raft-log.ts',
        find: 'this.commitTo(Math.min(commit, last))',
        replace: 'this.commitTo(Math.min(commit, this.lastIndex))',
      },
    ],
  },
  {
    name: 'completion-of-old-term',
    family: 12,
    mistake: 'a write of an earlier term counts, though the same entries are being written again',
    patches: [
      {
        file: 'core/step.ts',
        find: "if (message.index !== 0) tellIgnored(raft, 'staleAppendIgnored', message)",
        replace:
          'if (message.index !== 0)\n' +
          '      raft.log.unstable.stableTo({ index: message.index, term: message.logTerm })',
      },
    ],
  },
  {
    name: 'vote-in-a-second-write',
    family: 5,
    mistake: 'term and vote are written after the entries, in a write of their own',
    patches: [
      {
        file: 'storage/level-log-store.ts',
        find: '    await this.#write([\n      ...operations,\n',
        replace: '    await this.#write([...operations])\n    await this.#write([\n',
      },
    ],
  },
  {
    name: 'idle-follower-stays-probed',
    family: 9,
    mistake:
      'a follower that has everything is never sent the probe that ends probing (etcd 10308)',
    patches: [
      {
        file: 'core/leader.ts',
        find: "progress.match < raft.log.lastIndex || progress.mode === 'probe'",
        replace: 'progress.match < raft.log.lastIndex',
      },
    ],
  },
  {
    name: 'full-window-is-silent',
    family: 9,
    mistake: 'nothing at all is sent while the window is full (etcd 14633)',
    patches: [
      {
        file: 'core/progress.ts',
        find: "return this.mode === 'snapshot' || this.flowPaused",
        replace: "return this.mode === 'snapshot' || this.flowPaused || this.inflights.full",
      },
    ],
  },
  {
    name: 'snapshot-failure-ignored',
    family: 9,
    mistake: 'a leader that is told that a snapshot was lost goes on waiting for it (dgraph 2707)',
    patches: [
      {
        file: 'core/leader.ts',
        find: "if (progress.mode !== 'snapshot') return\n",
        replace: "if (progress.mode !== 'snapshot' || !ok) return\n",
      },
    ],
  },
  {
    name: 'old-snapshot-installed',
    family: 15,
    mistake: 'a snapshot from before the start of the log is installed',
    patches: [
      {
        file: 'core/append-handler.ts',
        find: 'if (index <= raft.log.committed) return false',
        replace: '',
      },
    ],
  },
  {
    name: 'snapshot-not-pinned',
    family: 15,
    mistake: 'the log is compacted past a snapshot on its way, so that the next is needed at once',
    patches: [
      {
        file: 'runtime/log-holds.ts',
        find: 'this.#holds.set(peer, { index, sinceMs: undefined })',
        replace: 'void [peer, index]',
      },
    ],
  },
  {
    name: 'log-without-beginning-opened',
    family: 16,
    mistake: 'a log that starts behind every snapshot is opened (hashicorp 85)',
    patches: [
      {
        file: 'runtime/recovery.ts',
        find: 'if (base.index > 0) {',
        replace: 'if (base.index < 0) {',
      },
    ],
  },
  {
    name: 'empty-log-not-aligned',
    family: 16,
    mistake: 'a log without entries behind its snapshot is not known to continue it (hashicorp 86)',
    patches: [
      {
        file: 'runtime/recovery.ts',
        find: 'if (index === base.index) return base.term',
        replace: '',
      },
    ],
  },
  {
    name: 'no-empty-entry',
    family: 17,
    mistake: 'a new leader appends no entry of its own term (redisraft)',
    patches: [
      {
        file: 'core/elections.ts',
        find: "  appendEntries(raft, leader, [{ type: 'normal', data: new Uint8Array() }])\n",
        replace: '  void [leader, appendEntries]\n',
      },
    ],
  },
  {
    name: 'new-voters-not-counted',
    family: 21,
    mistake: 'voters that were not heard from yet do not count for the quorum (openraft 364)',
    patches: [
      {
        file: 'core/quorum.ts',
        find: '    return at(indexes, this.size - (Math.floor(this.size / 2) + 1))',
        replace:
          '    const heard = indexes.filter((index) => index > 0)\n' +
          '    const quorum = Math.floor(heard.length / 2) + 1\n' +
          '    return heard.length === 0 ? 0 : at(heard, heard.length - quorum)',
      },
    ],
  },
  {
    name: 'lease-outlives-transfer',
    family: 24,
    mistake: 'the lease goes on when the target of a transfer is told to campaign (etcd 12704)',
    patches: [{ file: 'core/transfer.ts', find: '  leader.reads.forfeitLease()\n', replace: '' }],
  },
  {
    name: 'lease-not-looked-at',
    family: 24,
    mistake: 'the lease is not compared with the clock at the moment of the read (sofa-jraft 25)',
    patches: [
      {
        file: 'runtime/lease.ts',
        find: 'return start !== undefined && nowMs - start.atMs < durationMs',
        replace: 'return start !== undefined && nowMs + durationMs > 0',
      },
    ],
  },
  {
    name: 'lone-voter-reads-at-once',
    family: 25,
    mistake: 'a lone voter names its commit index before it has committed anything in its term',
    patches: [
      {
        file: 'core/read-requests.ts',
        find: 'if (committedInTerm(raft)) {\n    serve(',
        replace:
          'if (committedInTerm(raft) || raft.tracker.membership.voters.isSingleton) {\n    serve(',
      },
    ],
  },
  {
    name: 'commit-never-written',
    family: 25,
    mistake: 'the commit index is not written in rest, and unknown after a cold boot',
    patches: [
      {
        file: 'runtime/append-writer.ts',
        find: '  #writeCommit(): void {\n',
        replace: '  #writeCommit(): void {\n    if (this.#jobs.length >= 0) return\n',
      },
    ],
  },
  {
    name: 'transfer-outlives-its-term',
    family: 26,
    mistake: 'what a leader knows of a transfer is still there when it leads again (hashicorp 696)',
    patches: [
      {
        file: 'core/raft.ts',
        find: 'const leader = new LeaderState(this.log.lastIndex)',
        replace: 'const leader = (this.kept ??= new LeaderState(this.log.lastIndex))',
      },
    ],
  },
  {
    name: 'writes-during-transfer',
    family: 27,
    mistake: 'a leader takes proposals while it hands over (hashicorp 487)',
    patches: [
      {
        file: 'core/leader.ts',
        find: 'if (removed || leader.transferee !== NO_PEER) {',
        replace: 'if (removed) {',
      },
    ],
  },
  {
    name: 'checksum-not-compared',
    family: 29,
    mistake: 'damage inside a record of LevelDB is not noticed',
    patches: [
      {
        file: 'storage/log-records.ts',
        find: 'return crc32(payload) === expected ? payload : undefined',
        replace: 'return expected >= 0 ? payload : undefined',
      },
    ],
  },
  {
    name: 'gap-not-noticed',
    family: 29,
    mistake: 'a batch that LevelDB lost in the middle is not missed',
    patches: [
      {
        file: 'storage/log-opening.ts',
        find: 'if (!fits) throw records.corrupt(`expected entry ${expected}, found ${first}`)',
        replace: 'void fits',
      },
    ],
  },
  {
    name: 'lost-tail-not-noticed',
    family: 29,
    mistake: 'LevelDB’s silent cut of its own log is taken for the whole truth',
    patches: [
      {
        file: 'storage/level-log-store.ts',
        find: 'if (found.sequence < acknowledged) {',
        replace: 'if (found.sequence < 0 * acknowledged) {',
      },
    ],
  },
  {
    name: 'written-without-sync',
    family: 29,
    mistake: 'writes to LevelDB are not synced (leveldb 193)',
    patches: [
      {
        file: 'storage/level-log-store.ts',
        find: 'await database.batch([...operations], { sync: true })',
        replace: 'await database.batch([...operations], { sync: false })',
      },
    ],
  },
  {
    name: 'segment-without-sync',
    family: 28,
    mistake: 'segments of the file log are not open for synchronous writes',
    patches: [
      {
        file: 'storage/file-log-segment.ts',
        find: 'open(spare, constants.O_RDWR | constants.O_DSYNC)',
        replace: 'open(spare, constants.O_RDWR)',
      },
    ],
  },
]
