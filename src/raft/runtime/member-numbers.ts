/**
 * Members have names outside and numbers inside the core. The number is a hash of the name, so
 * every node gives the same one without agreeing on it first, and a message from a stranger (the
 * leader of a group that this node is about to join) can be answered.
 * Limits: 53 bits, the whole numbers of JavaScript. Two names with one number are refused when the
 * second is added (chance with 1,000 members: 1 in 10^10).
 */
import { createHash } from 'node:crypto'
import type { PeerId } from '../core/entry.ts'
import type { ServerId } from './ports.ts'

/** 2^21: the upper of the two words keeps 21 bits, the lower all 32. */
const UPPER_WORD_BOUND = 0x20_0000
const LOWER_WORD_BOUND = 0x1_0000_0000

/** The core's number of a member: deterministic, never 0, below 2^53. */
export function memberNumber(id: ServerId): PeerId {
  const hash = createHash('sha256').update(id).digest()
  const number = (hash.readUInt32BE(0) % UPPER_WORD_BOUND) * LOWER_WORD_BOUND + hash.readUInt32BE(4)
  return number === 0 ? 1 : number
}

/** Names by number: the members, and a few strangers that wrote to us lately. */
export class MemberNames {
  readonly #strangersMax: number
  readonly #members = new Map<PeerId, ServerId>()
  readonly #strangers = new Map<PeerId, ServerId>()

  constructor(strangersMax: number) {
    this.#strangersMax = strangersMax
  }

  nameOf(number: PeerId): ServerId | undefined {
    return this.#members.get(number) ?? this.#strangers.get(number)
  }

  /** Replaces the members. */
  setMembers(ids: Iterable<ServerId>): void {
    this.#members.clear()
    for (const id of ids) this.#members.set(memberNumber(id), id)
  }

  /**
   * Notes who wrote; returns the number. The oldest stranger is forgotten when there are too many.
   */
  meet(id: ServerId): PeerId {
    const known = this.#numbers.get(id)
    const number = known ?? memberNumber(id)
    if (known === undefined) this.#remember(id, number)
    if (!this.#members.has(number)) this.#addStranger(id, number)
    return number
  }

  /** Numbers of recent names: hashing is not free, and every message asks. */
  readonly #numbers = new Map<ServerId, PeerId>()

  #remember(id: ServerId, number: PeerId): void {
    if (this.#numbers.size >= NUMBERS_MAX) this.#numbers.clear()
    this.#numbers.set(id, number)
  }

  #addStranger(id: ServerId, number: PeerId): void {
    if (this.#strangers.has(number)) return
    if (this.#strangers.size >= this.#strangersMax) {
      const oldest = this.#strangers.keys().next().value
      if (oldest !== undefined) this.#strangers.delete(oldest)
    }
    this.#strangers.set(number, id)
  }
}

/** Names whose number is remembered; all are forgotten at once when there are more. */
const NUMBERS_MAX = 4096
