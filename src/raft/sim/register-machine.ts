/**
 * The replicated state machine of a simulation: registers that can be written and compared and
 * swapped. Commands carry a number of their own, never used twice, so that one that is applied
 * twice, or was said to have no effect, is found. Its state knows a hash of all commands in order.
 */
import { AssertionError } from '../../base/assert.ts'
import type { Index } from '../core/entry.ts'
import type { CommittedEntry, StateMachine } from '../runtime/ports.ts'

/** What a client asks of a register. Values are command numbers; 0 is nothing. */
export interface Command {
  readonly id: number
  readonly key: number
  /** Write only if the register holds this; always, when `undefined`. */
  readonly expected: number | undefined
  /** Bytes that the entry has beyond what it needs. */
  readonly padding: number
}

/** What a command answers: the value before, and whether it wrote. */
export interface Answer {
  readonly before: number
  readonly wrote: boolean
}

const HEADER_BYTES = 16
const ALWAYS = 0xffff_ffff
const HASH_PRIME = 0x01000193
/** Stands in the place of the index in a state from outside. */
const OUTSIDE = 0xffff_ffff

/** The command as bytes. */
export function encodeCommand({ id, key, expected, padding }: Command): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + padding)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, id)
  view.setUint32(4, key)
  view.setUint32(8, expected ?? ALWAYS)
  view.setUint32(12, padding)
  return bytes
}

/** The command that `bytes` hold. */
export function decodeCommand(bytes: Uint8Array): Command {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const expected = view.getUint32(8)
  return {
    id: view.getUint32(0),
    key: view.getUint32(4),
    expected: expected === ALWAYS ? undefined : expected,
    padding: view.getUint32(12),
  }
}

/** The pieces of a state from outside; it is known by `id` until the next command. */
export function outsideState(id: number, values: ReadonlyMap<number, number>): Uint8Array[] {
  return piecesOf([id, OUTSIDE, ...[...values].flat()])
}

function piecesOf(words: readonly number[]): Uint8Array[] {
  const all = new Uint32Array(words)
  const pieces: Uint8Array[] = []
  for (let start = 0; start < all.length; start += 4) {
    pieces.push(new Uint8Array(all.slice(start, start + 4).buffer))
  }
  return pieces
}

/** Told of all that happens to a machine. */
export interface MachineWatch {
  onApply(entry: CommittedEntry, command: Command, machine: RegisterMachine): void
  onRestore(index: Index, machine: RegisterMachine): void
  /** A state from outside took the place of everything. */
  onReplaced(index: Index, machine: RegisterMachine): void
  /** Time that applying takes. */
  onApplied(count: number): void
}

/** Registers. */
export class RegisterMachine implements StateMachine<Answer> {
  readonly #watch: MachineWatch
  readonly #registers = new Map<number, number>()
  /** Hash of every command applied, in order. */
  hash = 0
  /** The last command applied, or the snapshot. */
  index: Index = 0

  constructor(watch: MachineWatch) {
    this.#watch = watch
  }

  get keys(): readonly number[] {
    return [...this.#registers.keys()]
  }

  get(key: number): number {
    return this.#registers.get(key) ?? 0
  }

  /** Whether the registers hold `values` and nothing else. */
  holds(values: ReadonlyMap<number, number>): boolean {
    const isEach = [...values].every(([key, value]) => this.get(key) === value)
    return isEach && this.#registers.size === values.size
  }

  apply(entries: readonly CommittedEntry[]): readonly Answer[] {
    const answers = entries.map((entry) => this.#apply(entry))
    this.#watch.onApplied(entries.length)
    return answers
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    yield* piecesOf([this.hash, this.index, ...[...this.#registers].flat()])
  }

  async restore(source: AsyncIterable<Uint8Array>, index: Index): Promise<void> {
    const words: number[] = []
    for await (const chunk of source) {
      words.push(...new Uint32Array(chunk.slice().buffer))
    }
    const [hash = 0, at = 0, ...rest] = words
    if (rest.length % 2 !== 0) throw new AssertionError('a snapshot arrived in part')
    this.hash = hash
    this.index = at === OUTSIDE ? index : Math.max(at, index)
    this.#registers.clear()
    for (let position = 0; position < rest.length; position += 2) {
      this.#registers.set(rest[position] ?? 0, rest[position + 1] ?? 0)
    }
    if (at === OUTSIDE) this.#watch.onReplaced(index, this)
    else this.#watch.onRestore(index, this)
  }

  #apply(entry: CommittedEntry): Answer {
    const command = decodeCommand(entry.data)
    const before = this.get(command.key)
    const wrote = command.expected === undefined || command.expected === before
    if (wrote) this.#registers.set(command.key, command.id)
    this.hash = Math.imul(this.hash ^ command.id, HASH_PRIME) >>> 0
    this.index = entry.index
    this.#watch.onApply(entry, command, this)
    return { before, wrote }
  }
}
