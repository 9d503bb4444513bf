/** The client outside: a few workers that write and read without pause and record what they see. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../../src/base/random.ts'
import type { History } from './history.ts'
import type { Lost, Member } from './member.ts'
import { KEYS, type Answer } from './protocol.ts'

const WORKERS = 16
/** How long a worker waits for an answer; one that comes later is recorded all the same. */
const PATIENCE_MS = 1000
/** Rest between two operations of a worker: the load is steady, not the heaviest. */
const REST_MS = 12
const WRITES_PERCENT = 70
const COMMAND_BYTES_MAX = 2048
/** One command in so many is a large one: it fills a good part of a log segment. */
const LARGE_ONE_IN = 150
const LARGE_BYTES = 200_000

/** Refusals that promise that a write took no effect. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  'NOT_LEADER',
  'RESOURCE_EXHAUSTED',
  // Leadership is on its way to another: refused before it entered the log (runtime/proposals.ts).
  'UNAVAILABLE',
])

interface Parts {
  readonly members: readonly Member[]
  readonly history: History
  readonly random: Random
}

/** Writes and reads until it is stopped. */
export class Load {
  readonly #parts: Parts
  #value = 0
  #leader = 0
  #workers: Promise<void>[] = []
  #stopped = false
  /** Terms whose leaders acknowledged a write. */
  readonly termsWithWrites: Set<number> = new Set()
  /** Writes without effect, by code. */
  readonly refused: Record<string, number> = {}
  /** Writes that were begun. */
  get writes(): number {
    return this.#value
  }

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Position of the member that is believed to lead. */
  get leader(): number {
    return this.#leader
  }

  start(): void {
    this.#stopped = false
    this.#workers = Array.from({ length: WORKERS }, () => this.#work())
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#workers)
  }

  async #work(): Promise<void> {
    const { random } = this.#parts
    while (!this.#stopped) {
      const operation = random.integer(100) < WRITES_PERCENT ? this.#write() : this.#read()
      await Promise.race([operation, sleep(PATIENCE_MS)])
      await sleep(random.integer(2 * REST_MS))
    }
  }

  async #write(): Promise<void> {
    const { members, history, random } = this.#parts
    this.#value += 1
    const value = this.#value
    const target = this.#leader
    const isLarge = random.integer(LARGE_ONE_IN) === 0
    const sizeBytes = isLarge ? LARGE_BYTES : random.integer(COMMAND_BYTES_MAX)
    const began = history.beginWrite(value)
    const answer = await members[target]?.request({ type: 'write', value, sizeBytes })
    if (answer?.type === 'written') {
      history.onWritten(value, answer.position, began)
      this.termsWithWrites.add(answer.term)
      return
    }
    if (answer?.type === 'failed' && WITHOUT_EFFECT.has(answer.code)) {
      history.onRefused(value)
      this.refused[answer.code] = (this.refused[answer.code] ?? 0) + 1
    }
    this.#lookElsewhere(target, answer)
  }

  /** Any member answers reads: most of them do not lead. */
  async #read(): Promise<void> {
    const { members, history, random } = this.#parts
    const key = random.integer(KEYS)
    const began = history.begin()
    const member = members[random.integer(members.length)]
    const answer = await member?.request({ type: 'read', key })
    if (answer?.type === 'value') history.onRead({ key, last: answer.last }, answer.length, began)
  }

  #lookElsewhere(target: number, answer: Answer | Lost | undefined): void {
    if (this.#leader !== target) return
    const { members } = this.#parts
    const name = answer?.type === 'failed' ? answer.leader : ''
    const hint = members.findIndex((member) => member.name === name)
    this.#leader = hint >= 0 && hint !== target ? hint : (target + 1) % members.length
  }
}
