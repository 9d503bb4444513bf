/**
 * The one log that all members must agree on, as the simulation sees it from outside, and every
 * entry that was ever seen. Log matching is checked inductively: an entry at one place and term is
 * always the same, and so is the term before it (Ongaro §3.5).
 */
import {
  isConfChange,
  type ConfState,
  type Entry,
  type Index,
  type PeerId,
  type Term,
} from '../core/entry.ts'
import type { SimDisk } from './sim-disk.ts'
import type { Verdict } from './verdict.ts'

/** A committed entry. */
export interface CommittedRecord {
  readonly term: Term
  readonly hash: number
  readonly isCommand: boolean
  /** Whether it changes the membership. */
  readonly isChange: boolean
  /** Term of the leader that committed it. */
  readonly inTerm: Term
}

interface Seen {
  readonly hash: number
  readonly isCommand: boolean
  readonly isChange: boolean
  previousTerm: Term | undefined
}

/** Places and terms in one number: terms of a run stay far below this. */
const TERMS = 0x10_0000
/** Entries differ within so many bytes, if they do. */
const HASHED_BYTES = 256
const PRIME = 0x01000193

/** What is committed, and all that was ever in a log. */
export class GlobalLog {
  readonly #verdict: Verdict
  readonly #seen = new Map<number, Seen>()
  readonly #committed: CommittedRecord[] = []
  readonly #leaderEntries = new Map<number, Term>()
  readonly #leaders = new Map<Term, string>()

  constructor(verdict: Verdict) {
    this.#verdict = verdict
  }

  /** Index of the last entry known to be committed. */
  get last(): Index {
    return this.#committed.length
  }

  committed(index: Index): CommittedRecord | undefined {
    return this.#committed[index - 1]
  }

  /** The first configuration is committed from the beginning. */
  bootstrap(entries: readonly Entry[]): void {
    for (const entry of entries) {
      const { term } = entry
      this.#committed.push({
        term,
        hash: hashOf(entry),
        isCommand: false,
        isChange: false,
        inTerm: term,
      })
    }
  }

  /** The last entry that was committed by a leader of a term before `term`. */
  lastBefore(term: Term): Index {
    for (let index = this.last; index > 0; index -= 1) {
      const record = this.committed(index)
      if (record !== undefined && record.inTerm < term) return index
    }
    return 0
  }

  /** `leader` acts as leader of `term`. */
  leads(term: Term, leader: string): void {
    const known = this.#leaders.get(term)
    if (known === undefined) this.#leaders.set(term, leader)
    else if (known !== leader) {
      this.#verdict.fail('election-safety', `term ${term} is led by ${known} and ${leader}`)
    }
  }

  hasLeader(term: Term): boolean {
    return this.#leaders.has(term)
  }

  get leaders(): number {
    return this.#leaders.size
  }

  /** An entry was seen behind one of `previousTerm`. */
  see(entry: Entry, previousTerm: Term | undefined): void {
    const key = entry.index * TERMS + entry.term
    const hash = hashOf(entry)
    const known = this.#seen.get(key)
    if (known === undefined) {
      const isCommand = entry.type === 'normal' && entry.data.length > 0
      this.#seen.set(key, { hash, isCommand, isChange: isConfChange(entry.type), previousTerm })
      return
    }
    const place = `entry ${entry.index} of term ${entry.term}`
    if (known.hash !== hash) this.#verdict.fail('log-matching', `${place} exists twice`)
    if (known.previousTerm === undefined) known.previousTerm = previousTerm
    else if (previousTerm !== undefined && previousTerm !== known.previousTerm) {
      const terms = `${known.previousTerm} and ${previousTerm}`
      this.#verdict.fail('log-matching', `${place} follows entries of terms ${terms}`)
    }
  }

  /** The leader of `term` has, at `index`, an entry of `entryTerm`. */
  leaderHas(term: Term, index: Index, entryTerm: Term): void {
    const key = index * TERMS + term
    const known = this.#leaderEntries.get(key)
    if (known === entryTerm) return
    if (known !== undefined) {
      const detail = `the leader of term ${term} had entry ${index} of term ${known}, then of`
      this.#verdict.fail('leader-append-only', `${detail} ${entryTerm}`)
      return
    }
    this.#leaderEntries.set(key, entryTerm)
    const record = this.committed(index)
    if (record !== undefined && record.inTerm < term && record.term !== entryTerm) {
      const detail = `the leader of term ${term} has, for the committed entry ${index} of term`
      this.#verdict.fail('leader-completeness', `${detail} ${record.term}, one of ${entryTerm}`)
    }
  }

  /** Term of what the leader of `term` has at `index`, as far as it was ever sent. */
  leaderEntry(term: Term, index: Index): Term | undefined {
    return this.#leaderEntries.get(index * TERMS + term)
  }

  /** Everything up to `index` on `disk` is committed by the leader of `term`. */
  commit(disk: SimDisk, index: Index, inTerm: Term): void {
    for (let next = this.last + 1; next <= index; next += 1) {
      const term = disk.term(next)
      const seen = term === undefined ? undefined : this.#seen.get(next * TERMS + term)
      if (term === undefined || seen === undefined) return
      const { hash, isCommand, isChange } = seen
      this.#committed.push({ term, hash, isCommand, isChange, inTerm })
    }
  }

  /** An operator has decided that all on `disk`, and `entries` behind it, is what was committed. */
  force(disk: SimDisk, entries: readonly Entry[], inTerm: Term): void {
    this.commit(disk, disk.lastIndex, inTerm)
    for (const entry of entries) {
      if (entry.index !== this.last + 1) continue
      const isChange = isConfChange(entry.type)
      const { term } = entry
      this.#committed.push({ term, hash: hashOf(entry), isCommand: false, isChange, inTerm })
    }
  }

  /** Hash of the committed entry and whether `entry` is it. */
  isCommitted(entry: Entry): boolean {
    const record = this.committed(entry.index)
    return record !== undefined && record.term === entry.term && record.hash === hashOf(entry)
  }

  /** Whether the entry at `index` that `disk` holds is the committed one. */
  isSafeOn(disk: SimDisk, index: Index): boolean {
    const record = this.committed(index)
    return record !== undefined && index > disk.base.index && disk.term(index) === record.term
  }
}

/** Whether a majority of each half of `conf` satisfies `has`. */
export function quorumHas(conf: ConfState, has: (peer: PeerId) => boolean): boolean {
  return [conf.voters, conf.votersOutgoing].every(
    (half) => half.length === 0 || 2 * half.filter(has).length > half.length,
  )
}

function hashOf({ type, data }: Entry): number {
  let hash = type === 'normal' ? 1 : 2
  hash = Math.imul(hash ^ data.length, PRIME)
  const end = Math.min(data.length, HASHED_BYTES)
  for (let position = 0; position < end; position += 1) {
    hash = Math.imul(hash ^ (data[position] ?? 0), PRIME)
  }
  return hash >>> 0
}
