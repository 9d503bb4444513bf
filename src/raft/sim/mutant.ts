/** A planted mistake: changes of the production source that the simulator must notice. */
/** One change of one file below `src/raft`. */
export interface Patch {
  readonly file: string
  /** Stands there exactly once. */
  readonly find: string
  readonly replace: string
}

/** A mistake. */
export interface Mutant {
  readonly name: string
  /** Number of the bug family in reference/raft.md §1.2. */
  readonly family: number
  /** What is wrong. */
  readonly mistake: string
  readonly patches: readonly Patch[]
}
