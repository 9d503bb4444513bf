/** Mistakes in staging and in restores. */
import type { Mutant } from './mutant.ts'

/** See `mutants.ts`. */
export const operatorMutants: readonly Mutant[] = [
  {
    name: 'recovery-keeps-the-lost',
    family: 19,
    mistake: 'a survivor that is forced to go on alone still counts on those who are lost',
    patches: [
      {
        file: 'runtime/stored-state.ts',
        find: "...gone.map((id) => single({ type: 'remove', peer: memberNumber(id) })),",
        replace:
          "...gone.slice(1).map((id) => single({ type: 'remove', peer: memberNumber(id) })),",
      },
    ],
  },
  {
    name: 'recovery-not-committed',
    family: 19,
    mistake: 'the configuration that an operator forces does not count as committed',
    patches: [
      {
        file: 'runtime/stored-state.ts',
        find: 'const commit = lastIndex + entries.length',
        replace: 'const { commit } = hardState',
      },
    ],
  },
  {
    name: 'recovery-reads-only-the-snapshot',
    family: 19,
    mistake: 'a recovery takes the members of the snapshot for those of the log',
    patches: [
      {
        file: 'runtime/stored-state.ts',
        find: 'if (end <= start) return from',
        replace: 'if (end <= start || from !== Membership.none) return from',
      },
    ],
  },
  {
    name: 'promoted-before-caught-up',
    family: 18,
    mistake: 'a staged server becomes a voter before it has what the leader has',
    patches: [
      {
        file: 'runtime/staging.ts',
        find: 'if (match >= target && this.#isHeard(candidate.id)) return',
        replace: 'if (match >= 0 * target) return',
      },
    ],
  },
  {
    name: 'promoted-twice',
    family: 18,
    mistake: 'a server is staged twice at once, and both are told that they made it a voter',
    patches: [
      {
        file: 'runtime/staging.ts',
        find: 'if (this.#candidates.has(id)) {',
        replace: "if (id === '' && this.#candidates.has(id)) {",
      },
    ],
  },
  {
    name: 'promoted-after-removal',
    family: 18,
    mistake: 'a server that was removed while it waited for its promotion is promoted all the same',
    patches: [
      {
        file: 'runtime/staging.ts',
        find: '      if (!this.#isMember(candidate.id)) throw removed(candidate)\n',
        replace: '      if (!this.#isMember(candidate.id) && candidate.rounds > 0) return\n',
      },
    ],
  },
  {
    name: 'snapshot-inside-restore',
    family: 15,
    mistake: 'a snapshot in the middle of a restore claims the pieces, which it does not hold',
    patches: [
      {
        file: 'runtime/applier.ts',
        find: 'return this.#restores.before ?? { index',
        replace: 'return { index',
      },
    ],
  },
  {
    name: 'no-snapshot-inside-restore',
    family: 9,
    mistake:
      'no snapshot is taken in a restore, though the next piece may need a voter who needs one',
    patches: [
      {
        file: 'runtime/applier.ts',
        find: '    return this.#isRestoring\n  }',
        replace: '    return this.#restores.before !== undefined || this.#isRestoring\n  }',
      },
    ],
  },
  {
    name: 'restore-end-denied',
    family: 17,
    mistake: 'a restore whose end has an open fate is said to have had no effect',
    patches: [
      {
        file: 'runtime/restore.ts',
        find: "const { index, term } = await this.#propose('end')",
        replace:
          "const { index, term } = await this.#propose('end').catch((error: unknown) => {\n" +
          "      throw new SwarmError('NOT_LEADER', String(error))\n    })",
      },
    ],
  },
  {
    name: 'restore-interrupted-unseen',
    family: 17,
    mistake: 'a restore that another entry has interrupted is told as done',
    patches: [
      {
        file: 'runtime/restore.ts',
        find: 'if (index === begin.index + this.#pieces + 1) return index',
        replace: 'if (index > begin.index) return index',
      },
    ],
  },
  {
    name: 'restore-in-part',
    family: 17,
    mistake: 'a restore whose source broke ends instead of being called off',
    patches: [
      {
        file: 'runtime/restore.ts',
        find: "data: encodeRestore('cancel')",
        replace: "data: encodeRestore('end')",
      },
    ],
  },
  {
    name: 'restore-of-another-size',
    family: 17,
    mistake: 'a restore whose source gives other bytes than announced is put in force',
    patches: [
      {
        file: 'runtime/restore.ts',
        find: 'if (sizeBytes === undefined || sizeBytes === this.#sizeBytes) return',
        replace: 'if (sizeBytes !== 0) return',
      },
    ],
  },
  {
    name: 'restore-denies-open-writes',
    family: 17,
    mistake: 'writes that a restore finds in the log are said to have no effect',
    patches: [
      {
        file: 'runtime/restore.ts',
        find: "new SwarmError('ABORTED', message)",
        replace: "new SwarmError('NOT_LEADER', message)",
      },
    ],
  },
  {
    name: 'restore-goes-on-after-others',
    family: 15,
    mistake: 'entries of another kind do not end a restore that has begun',
    patches: [
      {
        file: 'runtime/restore-entries.ts',
        find: '  onOther(): void {\n    this.#open = undefined\n',
        replace: '  onOther(): void {\n',
      },
      {
        file: 'runtime/restore-entries.ts',
        find: 'if (this.#open !== undefined && term !== this.#open.term) this.#open = undefined',
        replace: 'if (term < 0) this.#open = undefined',
      },
    ],
  },
]
