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

/** Where the checks look. */
export interface WireView {
  readonly disk: (id: ServerId) => SimDisk | undefined
  /** The node's present life, by name. */
  readonly life: (id: ServerId) => string
}

/** Invariants of messages. */
export class WireChecks implements WireWatch {
  readonly #verdict: Verdict
  readonly #log: GlobalLog
  readonly #view: WireView
  /** Messages by type, for statistics. */
  readonly sent = new Map<Message['type'], number>()

  constructor(verdict: Verdict, log: GlobalLog, view: WireView) {
    this.#verdict = verdict
    this.#log = log
    this.#view = view
  }

  onSend(from: ServerId, _to: ServerId, message: Message): void {
    this.sent.set(message.type, (this.sent.get(message.type) ?? 0) + 1)
    this.#verdict.note(message.term * 64 + message.type.length)
    const disk = this.#view.disk(from)
    if (disk === undefined) return
    const { type, term } = message
    if (LEADERS.has(type)) this.#log.leads(term, this.#view.life(from))
    if (type === 'appResp' && !message.reject) this.#checkAcceptance(disk, message)
    else if (type === 'voteResp' && !message.reject) this.#checkVote(disk, message)
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

  /** A vote that was given is on disk, or a later term is. */
  #checkVote(disk: SimDisk, { term, to }: VoteResponse): void {
    const { hardState } = disk
    const isKept = hardState.term > term || (hardState.term === term && hardState.vote === to)
    this.#checkSynced(disk, isKept, `its vote in term ${term}`)
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
