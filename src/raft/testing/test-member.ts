/**
 * Members for tests of the core: each with a log in memory, and a group of them with a network that
 * delivers everything, except what a test takes away. Synchronous mode.
 */
import { assert, defined } from '../../base/assert.ts'
import { seededRandom } from '../../base/random.ts'
import { decodeConfChange } from '../core/conf-change-codec.ts'
import type { CoreOptions } from '../core/core-options.ts'
import type { ConfState, Entry, HardState, PeerId, Snapshot, Term } from '../core/entry.ts'
import type { Message, ProposedEntry } from '../core/message.ts'
import { RaftCore } from '../core/raft-core.ts'
import type { ReadState, Ready } from '../core/ready.ts'
import { snapshotAt } from './core-messages.ts'
import { EMPTY_SNAPSHOT, MemoryLog } from './memory-log.ts'

/** Where a member starts. */
export interface MemberStart {
  readonly voters: readonly PeerId[]
  readonly learners?: readonly PeerId[]
  /** Terms of entries 1, 2, ... */
  readonly terms?: readonly Term[]
  readonly hard?: Partial<HardState>
}

export const TEST_TICKS = { electionTicks: 10, heartbeatTicks: 1 } as const
/** Options that keep a member that was cut off from disturbing, and a leader from lingering. */
export const SAFE = { preVote: true, checkQuorum: true } as const
/** The same, with reads by lease. */
export const LEASE = { ...SAFE, readOnly: 'lease' } as const

/** Steps after which a group that does not come to rest is taken to be broken. */
const MAX_ROUNDS = 1000

/** An entry without meaning. */
export function normal(text = ''): ProposedEntry {
  return { type: 'normal', data: new TextEncoder().encode(text) }
}

/** An entry in its place. */
export function entry(index: number, term: Term, text = ''): Entry {
  return { index, term, ...normal(text) }
}

/** The numbers 1 to `size`. */
export function firstPeers(size: number): PeerId[] {
  return Array.from({ length: size }, (_, position) => position + 1)
}

function confOf({ voters, learners = [] }: MemberStart): ConfState {
  return { ...EMPTY_SNAPSHOT.metadata.conf, voters, learners }
}

/** A core with its disk and what it has applied. */
export class TestMember {
  readonly id: PeerId
  readonly log: MemoryLog
  readonly core: RaftCore
  readonly applied: Entry[] = []
  readonly reads: ReadState[] = []
  #snapshot: Snapshot

  constructor(id: PeerId, start: MemberStart, options: Partial<CoreOptions> = {}) {
    this.id = id
    const conf = confOf(start)
    this.#snapshot = { metadata: { index: 0, term: 0, conf } }
    this.log = new MemoryLog(
      ({ data }) => data.length,
      () => this.#snapshot,
    )
    this.log.install(this.#snapshot)
    const terms = start.terms ?? []
    this.log.append(terms.map((term, position) => entry(position + 1, term)))
    this.log.setHardState({ term: terms.at(-1) ?? 0, vote: 0, commit: 0, ...start.hard })
    const random = seededRandom(id)
    this.core = RaftCore.restore({ ...TEST_TICKS, random, ...options, id }, this.log)
  }

  /** The latest snapshot: as of the last applied entry. */
  get snapshot(): Snapshot {
    return this.#snapshot
  }

  get role(): string {
    return this.core.status().role
  }

  get term(): Term {
    return this.core.status().hard.term
  }

  get commit(): number {
    return this.core.status().hard.commit
  }

  /** Terms of the entries on disk. */
  get terms(): Term[] {
    const first = this.log.firstIndex()
    const last = this.log.lastIndex()
    if (last < first) return []
    const entries = this.log.entries(first, last + 1, Number.MAX_SAFE_INTEGER)
    assert(entries !== 'compacted', 'the whole log is there')
    return entries.map(({ term }) => term)
  }

  tick(count = 1): void {
    for (let i = 0; i < count; i += 1) this.core.tick()
  }

  /** Does everything that is to be done; returns what was sent. */
  drain(): Message[] {
    const sent: Message[] = []
    while (this.core.hasReady()) sent.push(...this.#handle(this.core.ready()))
    return sent
  }

  /** Steps a message and returns what was sent because of it. */
  answer(message: Message): Message[] {
    this.core.step(message)
    return this.drain()
  }

  /** Drops the log up to and including `index`. */
  compact(index: number): void {
    this.log.compact(index)
  }

  #handle(ready: Ready): readonly Message[] {
    if (ready.hard !== undefined) this.log.setHardState(ready.hard)
    if (ready.snapshot !== undefined) {
      this.log.install(ready.snapshot)
      this.#snapshot = ready.snapshot
    }
    this.log.append(ready.entries)
    this.reads.push(...ready.readStates)
    for (const committed of ready.committed) this.#apply(committed)
    this.core.advance(ready)
    return ready.messages
  }

  #apply(committed: Entry): void {
    this.applied.push(committed)
    const { index, term } = committed
    const conf =
      committed.type === 'normal'
        ? this.#snapshot.metadata.conf
        : this.core.applyConfChange(decodeConfChange(committed.data))
    this.#snapshot = { metadata: { index, term, conf } }
  }
}

/** Members and a network that loses what `lost` says. */
export class TestGroup {
  readonly members: ReadonlyMap<PeerId, TestMember>
  lost: (message: Message) => boolean = () => false

  constructor(members: readonly TestMember[]) {
    this.members = new Map(members.map((member) => [member.id, member]))
  }

  /** `size` voters with empty logs. */
  static of(size: number, options: Partial<CoreOptions> = {}): TestGroup {
    const voters = firstPeers(size)
    return new TestGroup(voters.map((id) => new TestMember(id, { voters }, options)))
  }

  member(id: PeerId): TestMember {
    return defined(this.members.get(id), `member ${id}`)
  }

  /** Lets member `id` campaign and everybody come to rest. */
  elect(id: PeerId): TestMember {
    const member = this.member(id)
    member.core.campaign()
    this.settle()
    return member
  }

  /** Cuts some members off from the others, and connects everybody else. */
  isolate(...ids: readonly PeerId[]): void {
    this.lost = ({ from, to }) => ids.includes(from) || ids.includes(to)
  }

  /** Connects everybody. */
  heal(): void {
    this.lost = () => false
  }

  /** Lets one tick pass everywhere, in order, and everybody come to rest. */
  tick(count = 1): void {
    for (let i = 0; i < count; i += 1) {
      for (const member of this.members.values()) member.tick()
      this.settle()
    }
  }

  /** Delivers messages until there are none; returns all that were delivered. */
  settle(): Message[] {
    const delivered: Message[] = []
    for (let round = 0; round < MAX_ROUNDS; round += 1) {
      const sent = [...this.members.values()].flatMap((member) => member.drain())
      if (sent.length === 0) return delivered
      for (const message of sent) {
        if (this.lost(message)) continue
        delivered.push(message)
        this.members.get(message.to)?.core.step(message)
      }
    }
    throw new Error(`the group did not come to rest in ${MAX_ROUNDS} rounds`)
  }

  /** Members that lead. */
  leaders(): PeerId[] {
    return [...this.members.values()].filter(({ role }) => role === 'leader').map(({ id }) => id)
  }
}

/** A core whose `Ready`s the test handles itself. */
export function bareCore(
  id: PeerId,
  options: Partial<CoreOptions> & { readonly terms?: readonly Term[] } = {},
): { core: RaftCore; log: MemoryLog } {
  const { terms = [], ...rest } = options
  const log = new MemoryLog(
    ({ data }) => data.length,
    () => EMPTY_SNAPSHOT,
  )
  log.install(snapshotAt(0, 0, [1, 2, 3]))
  log.append(terms.map((term, position) => entry(position + 1, term)))
  log.setHardState({ term: terms.at(-1) ?? 0, vote: 0, commit: 0 })
  const core = RaftCore.restore({ ...TEST_TICKS, random: seededRandom(id), ...rest, id }, log)
  return { core, log }
}
