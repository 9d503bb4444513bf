/** Mistakes in what drives the core: writes, snapshots, answers to clients. */
import type { Mutant } from './mutant.ts'

/** See `mutants.ts`. */
export const runtimeMutants: readonly Mutant[] = [
  {
    name: 'vote-not-written',
    family: 5,
    mistake: 'a vote without a new term is not written',
    patches: [
      {
        file: 'runtime/append-writer.ts',
        find: 'return this.#wanted.term !== this.#written.term || this.#wanted.vote !== this.#written.vote',
        replace: 'return this.#wanted.term !== this.#written.term',
      },
    ],
  },
  {
    name: 'snapshot-failure-unreported',
    family: 9,
    mistake: 'a transfer that broke is not tried again, nor reported: nothing is sent any more',
    patches: [
      {
        file: 'runtime/driver.ts',
        find: 'this.act(() => this.core.reportSnapshot(peer, ok))',
        replace: 'if (ok) this.act(() => this.core.reportSnapshot(peer, ok))',
      },
      {
        file: 'runtime/snapshot-sender.ts',
        find: 'if (!this.#mayTryAgain()) throw error',
        replace: 'if (error !== undefined || !this.#mayTryAgain()) throw error',
      },
    ],
  },
  {
    name: 'goes-on-after-failed-write',
    family: 13,
    mistake: 'a node goes on after a write to its log failed',
    patches: [
      {
        file: 'runtime/append-writer.ts',
        find: '      this.abort()\n      this.#hooks.onFailure(error)',
        replace: '      if (error === undefined) this.abort()',
      },
    ],
  },
  {
    name: 'log-not-aligned',
    family: 14,
    mistake: 'after a crash between a received snapshot and the reset of the log, the log is kept',
    patches: [
      {
        file: 'runtime/recovery.ts',
        find: 'if ((await termAt(logStore, contents, index)) === term)',
        replace: 'if ((await termAt(logStore, contents, index)) !== 0)',
      },
    ],
  },
  {
    name: 'compacts-what-no-snapshot-holds',
    family: 16,
    mistake: 'the log is compacted beyond its snapshot',
    patches: [
      {
        file: 'runtime/snapshot-keeper.ts',
        find: 'const index = Math.min(snapshotIndex, wanted)',
        replace: 'const index = wanted + Math.min(1, cache.lastIndex() - wanted)',
      },
    ],
  },
  {
    name: 'compacts-before-snapshot-is-stored',
    family: 16,
    mistake: 'the log is compacted while the snapshot is still being written',
    patches: [
      {
        file: 'runtime/snapshot-keeper.ts',
        find: '    const stored = await this.#write(sink, chunks, first)',
        replace:
          '    const early = { id: "", metadata, membership: membership.encode(), sizeBytes: 0 }\n' +
          '    this.#newest = early\n    this.compact()\n' +
          '    const stored = await this.#write(sink, chunks, first)',
      },
    ],
  },
  {
    name: 'snapshot-acknowledged-early',
    family: 15,
    mistake: 'a received snapshot is acknowledged before it is in force',
    patches: [
      {
        file: 'runtime/append-writer.ts',
        find: '    await this.#hooks.install(metadata, hardState)',
        replace:
          '    this.#hooks.onDurable(message.responses)\n' +
          '    await this.#hooks.install(metadata, hardState)',
      },
    ],
  },
  {
    name: 'snapshot-of-a-moving-state',
    family: 15,
    mistake: 'a snapshot says an earlier index than its state has',
    patches: [
      {
        file: 'runtime/snapshot-keeper.ts',
        find: 'const metadata = { index, term, conf: membership.conf }',
        replace: 'const metadata = { index: Math.max(1, index - 1), term, conf: membership.conf }',
      },
    ],
  },
  {
    name: 'forwarded-read-numbers-reused',
    family: 23,
    mistake: 'a restarted member numbers its reads anew from the beginning',
    patches: [
      {
        file: 'core/forwarded-reads.ts',
        find: 'this.#next = this.#random.integer(EPOCHS) * READS_PER_EPOCH + 1',
        replace: 'this.#next = 0 * this.#random.integer(EPOCHS) * READS_PER_EPOCH + 1',
      },
      {
        file: 'runtime/reads.ts',
        find: 'components.random.integer(LIVES) * NUMBERS_PER_LIFE',
        replace: '0 * components.random.integer(LIVES) * NUMBERS_PER_LIFE',
      },
    ],
  },
  {
    name: 'read-answered-before-applied',
    family: 22,
    mistake: 'a read does not wait until its index is applied',
    patches: [
      {
        file: 'runtime/raft.ts',
        find: 'if (this.appliedIndex >= index) return\n',
        replace: 'if (this.appliedIndex >= 0 * index) return\n',
      },
    ],
  },
  {
    name: 'acknowledged-before-sync',
    family: 28,
    mistake: 'what depends on a write leaves before the write is done',
    patches: [
      {
        file: 'runtime/append-writer.ts',
        find: '    await this.#write(group)\n    this.#hooks.onDurable(',
        replace: '    const done = this.#write(group)\n    this.#hooks.onDurable(',
      },
      {
        file: 'runtime/append-writer.ts',
        find: 'group.flatMap(({ responses }) => responses))',
        replace: 'group.flatMap(({ responses }) => responses))\n    await done',
      },
    ],
  },
  {
    name: 'two-writes-at-once',
    family: 28,
    mistake: 'the next write begins before the last is done',
    patches: [
      {
        file: 'runtime/append-writer.ts',
        find: 'await this.#components.logStore.append({ entries, hardState })\n',
        replace: 'void this.#components.logStore.append({ entries, hardState })\n',
      },
    ],
  },
  {
    name: 'refused-though-in-the-log',
    family: 17,
    mistake: 'a deposed leader says that open proposals took no effect',
    patches: [
      {
        file: 'runtime/proposals.ts',
        find: 'for (const { call } of forming) call.reject(error)',
        replace:
          'for (const { call } of forming) call.reject(error)\n' +
          '    for (const calls of this.#waiting.values()) for (const call of calls.values()) call.reject(error)',
      },
    ],
  },
  {
    name: 'answer-of-another-entry',
    family: 17,
    mistake: 'a proposal is answered with what another leader put at its place',
    patches: [
      {
        file: 'runtime/proposals.ts',
        find: 'const calls = this.#waiting.get(term)\n',
        replace: 'const calls = [...this.#waiting.values()].find((each) => each.has(index))\n',
      },
    ],
  },
  {
    name: 'withdrawn-batch-proposed',
    family: 17,
    mistake: 'a batch of which all calls have timed out is proposed, and the process stops',
    patches: [
      {
        file: 'runtime/proposals.ts',
        find: 'if (batch.length === 0) continue',
        replace: '',
      },
    ],
  },
]
