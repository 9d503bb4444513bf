/**
 * One seeded run of chaos over a small group: lost, delayed, duplicated and reordered messages,
 * crashes between any two steps, partitions, compaction, reads, transfers and configuration
 * changes, with the safety of Raft checked at each step, and at the end, when all faults stop, its
 * liveness. Source: Raft §5 (figure 3), reference/raft.md §4.1.
 */
import { assert, at, defined } from '../../base/assert.ts'
import { seededRandom, type Random } from '../../base/random.ts'
import type { ConfChange, ConfChangeSingle, ConfState, Entry, PeerId, Term } from '../core/entry.ts'
import type { Message } from '../core/message.ts'
import { ChaosMember } from './chaos-member.ts'

/** What one run is made of; drawn from its seed. */
export interface ChaosPlan {
  readonly members: number
  readonly steps: number
  readonly asyncStorageWrites: boolean
  readonly preVote: boolean
  readonly checkQuorum: boolean
  readonly readOnly: 'safe' | 'lease'
  readonly changeMembers: boolean
  /** Per mille of messages. */
  readonly loss: number
  readonly duplication: number
  /** Per mille of steps. */
  readonly crashes: number
}

/** What a run came to, so that a run without events is noticed. */
export interface ChaosResult {
  readonly plan: ChaosPlan
  readonly applied: number
  readonly reads: number
  readonly leaders: number
  readonly restarts: number
}

interface PendingRead {
  /** Everything up to here was committed when the read was asked for. */
  readonly floor: number
}

const TICKS = { electionTicks: 10, heartbeatTicks: 2 } as const
/** Ticks in which a group without faults must commit something new. */
const LIVENESS_TICKS = 400
/** Work done in one go before a run is taken to be stuck in a loop. */
const MAX_WORK = 10_000

/** Draws a plan. */
export function drawPlan(random: Random): ChaosPlan {
  const flip = (): boolean => random.integer(2) === 0
  const checkQuorum = flip()
  return {
    members: 3 + random.integer(3),
    steps: 400,
    asyncStorageWrites: flip(),
    preVote: flip(),
    checkQuorum,
    readOnly: checkQuorum && flip() ? 'lease' : 'safe',
    changeMembers: flip(),
    loss: random.integer(200),
    duplication: random.integer(200),
    crashes: random.integer(30),
  }
}

/** Runs a seed. Throws an `AssertionError` when an invariant is broken. */
export function runChaos(seed: number): ChaosResult {
  const random = seededRandom(seed)
  return new ChaosRun(drawPlan(random), random).run()
}

class ChaosRun {
  readonly #plan: ChaosPlan
  readonly #random: Random
  readonly #members: ChaosMember[]
  #network: Message[] = []
  #cut: ReadonlySet<PeerId> = new Set()
  /** What is committed at each index, by whoever applied it first. */
  readonly #committed = new Map<number, string>()
  #highest = 0
  readonly #leaders = new Map<Term, PeerId>()
  readonly #votes = new Map<string, PeerId>()
  readonly #reads = new Map<number, PendingRead>()
  #nextRead = 1
  #answered = 0
  #restarts = 0
  #proposals = 0

  constructor(plan: ChaosPlan, random: Random) {
    this.#plan = plan
    this.#random = random
    const ids = Array.from({ length: plan.members }, (_, position) => position + 1)
    const conf: ConfState = {
      voters: ids,
      votersOutgoing: [],
      learners: [],
      learnersNext: [],
      autoLeave: false,
    }
    const { asyncStorageWrites, preVote, checkQuorum, readOnly } = plan
    const options = {
      ...TICKS,
      asyncStorageWrites,
      preVote,
      checkQuorum,
      readOnly,
      // Else a removed leader goes on leading, and takes no proposals.
      stepDownOnRemoval: true,
      informVoters: true,
      maxBytesPerMessage: 20,
      maxCommittedBytesPerReady: 40,
      maxInflightMessages: 4,
      maxInflightBytes: 60,
    }
    const observer = {
      onApplied: this.#onApplied.bind(this),
      onRead: this.#onRead.bind(this),
      onDurable: this.#onDurable.bind(this),
    }
    this.#members = ids.map((id) => new ChaosMember(id, { conf, options, observer }))
  }

  run(): ChaosResult {
    for (let step = 0; step < this.#plan.steps; step += 1) {
      this.#act()
      this.#observe()
    }
    this.#recover()
    return {
      plan: this.#plan,
      applied: this.#highest,
      reads: this.#answered,
      leaders: this.#leaders.size,
      restarts: this.#restarts,
    }
  }

  #chance(perMille: number): boolean {
    return this.#random.integer(1000) < perMille
  }

  #pick<T>(list: readonly T[]): T {
    return at(list as readonly (T & {})[], this.#random.integer(list.length))
  }

  #act(): void {
    const member = this.#pick(this.#members)
    if (this.#chance(this.#plan.crashes)) member.crash()
    if (member.core === undefined && this.#chance(300)) {
      this.#restarts += 1
      member.start()
    }
    this.#tickSome()
    if (this.#chance(20)) this.#partition()
    if (this.#chance(400)) this.#propose(member)
    if (this.#chance(150)) this.#read(member)
    if (this.#chance(10)) member.core?.transferLeader(this.#pick(this.#members).id)
    if (this.#chance(30)) member.compact()
    if (this.#plan.changeMembers && this.#chance(60)) this.#changeMembers(member)
    this.#workSome()
    this.#deliverSome()
  }

  #tickSome(): void {
    if (this.#plan.readOnly === 'lease') {
      // Leases hold as long as clocks run alike.
      if (this.#chance(500)) for (const { core } of this.#members) core?.tick()
      return
    }
    for (const { core } of this.#members) if (this.#chance(500)) core?.tick()
  }

  #partition(): void {
    const ids = this.#members.map(({ id }) => id)
    this.#cut = new Set(this.#chance(500) ? [] : ids.filter(() => this.#chance(300)))
  }

  #propose(member: ChaosMember): void {
    this.#proposals += 1
    const data = new TextEncoder().encode(`p${this.#proposals}`)
    member.core?.propose([{ type: 'normal', data }])
  }

  #read(member: ChaosMember): void {
    const context = this.#nextRead
    this.#nextRead += 1
    this.#reads.set(context, { floor: this.#highest })
    member.core?.readIndex(context)
  }

  #changeMembers(member: ChaosMember): void {
    const types = ['addVoter', 'addLearner', 'remove'] as const
    const count = 1 + this.#random.integer(2)
    const changes: ConfChangeSingle[] = Array.from({ length: count }, () => ({
      type: this.#pick(types),
      peer: this.#pick(this.#members).id,
    }))
    const explicit = this.#chance(200)
    const transition: ConfChange['transition'] = explicit ? 'explicit' : 'auto'
    member.core?.proposeConfChange(
      this.#chance(200) ? { transition: 'auto', changes: [] } : { transition, changes },
    )
  }

  #workSome(): void {
    for (const member of this.#members) {
      const rounds = this.#random.integer(4)
      for (let i = 0; i < rounds; i += 1) {
        const crash = (): boolean => this.#chance(this.#plan.crashes / 4)
        if (!member.work(crash)) break
        this.#observe()
      }
      this.#network.push(...member.takeOutgoing())
    }
  }

  #deliverSome(): void {
    const count = this.#random.integer(this.#network.length + 1)
    for (let i = 0; i < count; i += 1) {
      // Mostly in order, sometimes anything.
      const position = this.#chance(900) ? 0 : this.#random.integer(this.#network.length)
      const [message] = this.#network.splice(position, 1)
      if (message === undefined) return
      if (this.#chance(this.#plan.duplication)) this.#network.push(message)
      this.#deliver(message)
    }
  }

  #deliver(message: Message): void {
    const cut = this.#cut.has(message.from) !== this.#cut.has(message.to)
    const lost = cut || this.#chance(this.#plan.loss)
    const { from, to } = message
    if (message.type === 'snap') this.#members[from - 1]?.core?.reportSnapshot(to, !lost)
    else if (lost && this.#chance(100)) this.#members[from - 1]?.core?.reportUnreachable(to)
    if (!lost) this.#members[to - 1]?.core?.step(message)
  }

  /** Checks what must hold at any time. */
  #observe(): void {
    for (const { id, core, log } of this.#members) {
      if (core === undefined) continue
      const { role, hard, lastIndex, applied } = core.status()
      assert(
        applied <= hard.commit && hard.commit <= lastIndex,
        `member ${id}: applied ${applied}, commit ${hard.commit}, last ${lastIndex}`,
      )
      const durable = log.initialState().hard
      assert(durable.term <= hard.term, `member ${id}: the term on disk is ahead`)
      if (role !== 'leader') continue
      const other = this.#leaders.get(hard.term)
      assert(
        other === undefined || other === id,
        `term ${hard.term} has two leaders: ${other} and ${id}`,
      )
      this.#leaders.set(hard.term, id)
    }
  }

  #onApplied(member: PeerId, entry: Entry): void {
    const text = `${entry.term} ${entry.type} ${entry.data.join(',')}`
    const known = this.#committed.get(entry.index)
    assert(
      known === undefined || known === text,
      `member ${member} applied "${text}" at ${entry.index}, others "${known}"`,
    )
    this.#committed.set(entry.index, text)
    this.#highest = Math.max(this.#highest, entry.index)
  }

  #onRead(member: PeerId, { index, context }: { index: number; context: number }): void {
    const read = defined(this.#reads.get(context), `read ${context}`)
    this.#answered += 1
    assert(
      index >= read.floor,
      `member ${member} read at ${index}, but ${read.floor} was committed before it asked`,
    )
  }

  #onDurable(member: PeerId, { term, vote }: { term: Term; vote: PeerId }): void {
    const key = `${member}/${term}`
    const before = this.#votes.get(key) ?? 0
    assert(
      before === 0 || before === vote,
      `member ${member} voted for ${before} and ${vote} in term ${term}`,
    )
    this.#votes.set(key, vote)
  }

  /** All faults stop: something new must be committed. */
  #recover(): void {
    this.#cut = new Set()
    for (const member of this.#members) if (member.core === undefined) member.start()
    const { changeMembers, preVote, checkQuorum } = this.#plan
    // Without these a removed member that does not know it may campaign for ever (bug 1).
    if (changeMembers && !(preVote && checkQuorum)) return
    const target = this.#highest + 1
    for (let tick = 0; tick < LIVENESS_TICKS && this.#highest <= target; tick += 1) {
      this.#tickInPeace()
    }
    assert(this.#highest > target, `nothing is committed after ${LIVENESS_TICKS} ticks of peace`)
  }

  #tickInPeace(): void {
    for (const member of this.#members) {
      member.core?.tick()
      if (member.core?.status().role === 'leader') this.#propose(member)
    }
    this.#settle()
    this.#observe()
  }

  #settle(): void {
    let work = 0
    for (;;) {
      for (const member of this.#members) {
        while (member.work(() => false)) work += 1
        this.#network.push(...member.takeOutgoing())
      }
      if (this.#network.length === 0) return
      assert(work < MAX_WORK, 'the group does not come to rest')
      const messages = this.#network
      this.#network = []
      for (const message of messages) {
        const { from, to } = message
        if (message.type === 'snap') this.#members[from - 1]?.core?.reportSnapshot(to, true)
        this.#members[to - 1]?.core?.step(message)
      }
    }
  }
}
