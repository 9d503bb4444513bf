/**
 * What must hold for each message that leaves a node: above all, that it does not promise more than
 * is synced.
 */
import type {
  AppendRequest,
  AppendResponse,
  Message,
  SnapshotRequest,
  VoteResponse,
} from '../core/message.ts'
import type { Index, Term } from '../core/entry.ts'
import type { ServerId } from '../runtime/ports.ts'
import type { GlobalLog } from './global-log.ts'
import type { SimDisk } from './sim-disk.ts'
import type { WireWatch } from './sim-network.ts'
import type { Verdict } from './verdict.ts'

/** Only the leader of a term sends these. */
const LEADERS: ReadonlySet<Message['type']> = new Set([
  'app',
  'heartbeat',
  'snap',
  'timeoutNow',
] as const)

/** Steps back for one follower in one term, besides one for each term of its tail. */
const BACK_OFFS_MAX = 5

/** Where the checks look. */
export interface WireView {
  readonly disk: (id: ServerId) => SimDisk | undefined
  /** The last entry in a node's log, durable or not. */
  readonly lastIndex: (id: ServerId) => Index
  /** The node's present life, by name. */
  readonly life: (id: ServerId) => string
}

/** Invariants of messages. */
export class WireChecks implements WireWatch {
  readonly #verdict: Verdict
  readonly #log: GlobalLog
  readonly #view: WireView
  /** The lowest index refused, and how many steps are left, by follower and term. */
  readonly #backOffs = new Map<string, { readonly lowest: Index; readonly left: number }>()
  /** Messages by type, for statistics. */
  readonly sent = new Map<Message['type'], number>()

  constructor(verdict: Verdict, log: GlobalLog, view: WireView) {
    this.#verdict = verdict
    this.#log = log
    this.#view = view
  }

  onSend(from: ServerId, to: ServerId, message: Message): void {
    this.sent.set(message.type, (this.sent.get(message.type) ?? 0) + 1)
    this.#verdict.note(message.term * 64 + message.type.length)
    const disk = this.#view.disk(from)
    if (disk === undefined) return
    const { type, term } = message
    if (LEADERS.has(type)) this.#log.leads(term, this.#view.life(from))
    if (type === 'appResp' && message.reject) this.#checkBackOff(disk, message)
    else if (type === 'appResp') this.#checkAcceptance(disk, message)
    else if (type === 'voteResp') this.#checkVote(disk, to, message)
    else if (type === 'timeoutNow') this.#checkHandOver(from, to, term)
    else if (type === 'app') this.#checkAppend(message)
    else if (type === 'snap') this.#checkSnapshot(message)
  }

  onDeliver(_from: ServerId, _to: ServerId, messages: readonly Message[]): void {
    this.#verdict.note(messages.length)
  }

  /** The term and the entries that are acknowledged are on disk. */
  #checkAcceptance(disk: SimDisk, { term, index }: AppendResponse): void {
    this.#checkSynced(disk, disk.hardState.term >= term, `term ${term}`)
    // In a later term what was accepted may have been replaced, before or after its write.
    if (index === 0 || disk.hardState.term > term) return
    this.#checkSynced(disk, disk.lastIndex >= index, `entry ${index}`)
    if (index <= disk.base.index) return
    const expected = this.#log.leaderEntry(term, index)
    const matches = expected === undefined || disk.term(index) === expected
    this.#checkSynced(disk, matches, `entry ${index} of term ${expected}`)
  }

  /**
   * A vote that was given is on disk, or a later term is; and it stays given, unless the candidate
   * has lost what it had not synced and asks once more with a shorter log.
   */
  #checkVote(disk: SimDisk, candidate: ServerId, { term, to, reject }: VoteResponse): void {
    const { hardState, id } = disk
    const isGiven = hardState.term === term && hardState.vote === to
    if (reject && this.#isBehind(candidate, disk)) return
    if (!reject) this.#checkSynced(disk, hardState.term > term || isGiven, `its vote of ${term}`)
    else if (isGiven && !this.#log.hasLeader(term)) {
      this.#verdict.fail('vote-durability', `${id} denies the vote that it gave in term ${term}`)
    }
  }

  #isBehind(candidate: ServerId, voter: SimDisk): boolean {
    const disk = this.#view.disk(candidate)
    if (lastTerm(disk) < lastTerm(voter)) return true
    return this.#view.lastIndex(candidate) < this.#view.lastIndex(voter.id)
  }

  /** Who is told to campaign has all that the leader has. */
  #checkHandOver(from: ServerId, to: ServerId, term: Term): void {
    const target = this.#view.disk(to)
    const lastIndex = this.#view.lastIndex(from)
    if (target === undefined || target.hardState.term > term) return
    if (target.lastIndex >= lastIndex) return
    const detail = `${from} hands over to ${to}, which has ${target.lastIndex} of ${lastIndex}`
    this.#verdict.fail('hand-over', `${detail} entries`)
  }

  /** A leader finds where a follower's log agrees in one step a term, not one an entry. */
  #checkBackOff(disk: SimDisk, { term, index }: AppendResponse): void {
    const key = `${disk.id} ${term}`
    const known = this.#backOffs.get(key)
    if (known !== undefined && index >= known.lowest) return
    const left = known === undefined ? BACK_OFFS_MAX + tailTerms(disk) : known.left - 1
    this.#backOffs.set(key, { lowest: index, left })
    if (left > 0) return
    const detail = `the leader of term ${term} goes back step by step for ${disk.id}`
    this.#verdict.fail('bounds', detail)
  }

  #checkSynced(disk: SimDisk, condition: boolean, what: string): void {
    if (condition) return
    this.#verdict.fail(
      'ack-before-sync',
      `${disk.id} vouches for ${what}, which is not on its disk`,
    )
  }

  #checkAppend({ term, index, logTerm, entries }: AppendRequest): void {
    if (index > 0) this.#log.leaderHas(term, index, logTerm)
    let previous = logTerm
    for (const entry of entries) {
      this.#log.see(entry, previous)
      this.#log.leaderHas(term, entry.index, entry.term)
      previous = entry.term
    }
  }

  #checkSnapshot({ snapshot: { metadata } }: SnapshotRequest): void {
    const record = this.#log.committed(metadata.index)
    if (record?.term === metadata.term) return
    const detail = `a snapshot at ${metadata.index} of term ${metadata.term} was sent`
    this.#verdict.fail('commit-durability', `${detail}, which is not committed`)
  }
}

/** How many terms the uncommitted tail of a log has. */
function tailTerms({ entries, hardState }: SimDisk): number {
  return new Set(entries.flatMap(({ index, term }) => (index > hardState.commit ? [term] : [])))
    .size
}

/** Term of the last entry that is synced. */
function lastTerm(disk: SimDisk | undefined): Term {
  return disk?.term(disk.lastIndex) ?? 0
}
