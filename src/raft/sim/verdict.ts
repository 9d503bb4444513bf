/** What a run comes to: the first invariant that was broken, if any, and a hash of its course. */

/** A broken promise. */
export interface Failure {
  /** Which one; stable, used to compare runs. */
  readonly invariant: Invariant
  readonly detail: string
  readonly atMs: number
}

/** Everything that a run checks. */
export type Invariant =
  /** Two leaders in one term. */
  | 'election-safety'
  /** A vote or term on disk went back, or a vote changed within a term. */
  | 'vote-durability'
  /** Two entries with one place and term differ, or what precedes them does. */
  | 'log-matching'
  /** A leader changed or dropped entries of its own log. */
  | 'leader-append-only'
  /** A leader lacks what was committed in an earlier term. */
  | 'leader-completeness'
  /** Something counts as committed that a quorum does not hold on disk. */
  | 'commit-durability'
  /** A committed entry was removed from a disk. */
  | 'committed-entry-lost'
  /** State machines went different ways. */
  | 'state-machine-safety'
  /** A message promised a write that is not on disk. */
  | 'ack-before-sync'
  /** applied <= commit <= last was broken. */
  | 'index-order'
  /** A member campaigns in a configuration that it knows to be past. */
  | 'configuration'
  /** Leadership is handed to a member that cannot take it. */
  | 'hand-over'
  /** A member that came back disturbed a leader that all others heard. */
  | 'stability'
  /** A staged server became a voter too early, twice, or after its removal. */
  | 'staging'
  /** Something grew beyond its limit. */
  | 'bounds'
  /** The storage port was used against its rules. */
  | 'storage-contract'
  /** A client was told something untrue. */
  | 'client-truth'
  /** A read or write contradicts the order of real time. */
  | 'linearizability'
  /** A read with a bound gave what was older. */
  | 'staleness'
  /** A call never ended. */
  | 'lost-call'
  /** After all faults ended the group did not go on. */
  | 'liveness'
  /** A node could not start, stopped without reason, or an assertion failed. */
  | 'crash'

const PRIME = 0x01000193
const SECOND_PRIME = 0x85ebca6b

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, '0')
}

/** Collects the outcome of one run. */
export class Verdict {
  readonly #nowMs: () => number
  #failure: Failure | undefined
  #low = 0x811c9dc5
  #high = 0x9e3779b9

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  get failure(): Failure | undefined {
    return this.#failure
  }

  /** The first failure counts. */
  fail(invariant: Invariant, detail: string): void {
    this.#failure ??= { invariant, detail, atMs: this.#nowMs() }
  }

  /** Fails unless `condition` holds. */
  check(condition: boolean, invariant: Invariant, detail: () => string): void {
    if (!condition) this.fail(invariant, detail())
  }

  /** Makes `value` part of the hash of the run. */
  note(value: number): void {
    this.#low = Math.imul(this.#low ^ value, PRIME)
    this.#high = Math.imul(this.#high ^ (value + (this.#low >>> 7)), SECOND_PRIME)
  }

  get hash(): string {
    return hex(this.#high) + hex(this.#low)
  }
}
