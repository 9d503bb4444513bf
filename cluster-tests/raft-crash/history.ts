/**
 * What the client outside saw, and whether a correct group could have shown it. The ledger's own
 * order is the witness: given it, linearizability is a simple matter for each operation.
 *
 * - an acknowledged write is at the position that was acknowledged, for ever (none lost, none
 *   moved); no value is there twice; a refused one (NOT_LEADER) is nowhere;
 * - an operation that began after another one ended sees at least what that one saw (`floor`): no
 *   stale read, no write before an earlier one;
 * - nothing is seen before somebody began to write it;
 * - a read's value is the newest of its key at its place in the order.
 *
 * Time is a count of events in this one process, so "before" is exact.
 */
import { digestWith } from './ledger.ts'
import { KEYS } from './protocol.ts'

/** When an operation began, and what it must see at least. */
export interface Began {
  readonly at: number
  /** Length of the ledger that some operation had seen by then. */
  readonly floor: number
}

interface Write {
  readonly beganAt: number
  position: number | undefined
  refused: boolean
}

interface Read {
  readonly key: number
  readonly last: number
  readonly endedAt: number
}

/** Operations and their check. */
export class History {
  /** What is wrong, in words; empty is good. */
  readonly violations: string[] = []
  readonly #writes = new Map<number, Write>()
  /** Position to value, for acknowledged writes. */
  readonly #acknowledged = new Map<number, number>()
  /** Reads (and writes) by the length that they saw, until the order is known so far. */
  readonly #unchecked = new Map<number, Read[]>()
  /** The order as far as it was read. */
  readonly #order: number[] = []
  readonly #placed = new Set<number>()
  readonly #last = new Map<number, number>()
  #digest = 0
  /** Newest beginning among the writes in `#order`. */
  #newestBegan = 0
  #now = 0
  #floor = 0
  #reads = 0

  get acknowledgedWrites(): number {
    return this.#acknowledged.size
  }

  get reads(): number {
    return this.#reads
  }

  /** Length of the order as checked. */
  get checkedLength(): number {
    return this.#order.length
  }

  /** A read begins. */
  begin(): Began {
    this.#now += 1
    return { at: this.#now, floor: this.#floor }
  }

  beginWrite(value: number): Began {
    const began = this.begin()
    this.#writes.set(value, { beganAt: began.at, position: undefined, refused: false })
    return began
  }

  onWritten(value: number, position: number, { floor }: Began): void {
    const write = this.#writes.get(value)
    const other = this.#acknowledged.get(position)
    if (write === undefined) return this.#violation(`value ${value} is acknowledged, not written`)
    if (other !== undefined) this.#violation(`${other} and ${value} both got position ${position}`)
    if (position < floor) {
      this.#violation(`write ${value} got position ${position}, behind ${floor} seen before it`)
    }
    write.position = position
    this.#acknowledged.set(position, value)
    if (position < this.#order.length && this.#order[position] !== value) this.#lost(position)
    this.#seen(position + 1)
  }

  /** The group said that the write takes no effect. */
  onRefused(value: number): void {
    const write = this.#writes.get(value)
    if (write !== undefined) write.refused = true
    if (this.#placed.has(value)) this.#violation(`value ${value} was refused, but took effect`)
  }

  onRead(read: Pick<Read, 'key' | 'last'>, length: number, { floor }: Began): void {
    this.#reads += 1
    this.#now += 1
    if (length < floor) {
      this.#violation(`stale read of key ${read.key}: ${length} values, ${floor} seen before it`)
    }
    this.#seen(length)
    if (length <= this.#order.length) {
      this.#checkOldRead(read, length)
      return
    }
    const waiting = this.#unchecked.get(length) ?? []
    this.#unchecked.set(length, [...waiting, { ...read, endedAt: this.#now }])
  }

  /**
   * The values behind `checkedLength`, from a linearizable read, and the checksum of the whole
   * ledger.
   */
  onTail(values: readonly number[], digest: number, { floor }: Began): void {
    this.#now += 1
    for (const value of values) this.#place(value)
    const length = this.#order.length
    if (length < floor) this.#violation(`the ledger has ${length} values, ${floor} were seen`)
    if (this.#digest !== digest) this.#violation(`values before ${length} have changed`)
    this.#seen(length)
  }

  #place(value: number): void {
    const position = this.#order.push(value) - 1
    const write = this.#writes.get(value)
    if (write === undefined) this.#violation(`value ${value} was never written`)
    if (write?.refused === true) this.#violation(`value ${value} was refused, but took effect`)
    if (this.#placed.has(value)) this.#violation(`value ${value} took effect twice`)
    if (write?.position !== undefined && write.position !== position) {
      this.#violation(`value ${value} moved from position ${write.position} to ${position}`)
    }
    if ((this.#acknowledged.get(position) ?? value) !== value) this.#lost(position)
    this.#placed.add(value)
    this.#last.set(value % KEYS, value)
    this.#digest = digestWith(this.#digest, value)
    this.#newestBegan = Math.max(this.#newestBegan, write?.beganAt ?? 0)
    for (const read of this.#unchecked.get(position + 1) ?? []) this.#checkRead(read)
    this.#unchecked.delete(position + 1)
  }

  /** A read that saw just `#order`. */
  #checkRead({ key, last, endedAt }: Read): void {
    const expected = this.#last.get(key) ?? 0
    const length = this.#order.length
    if (last !== expected) {
      this.#violation(`key ${key} had ${expected} at ${length}, a read said ${last}`)
    }
    if (this.#newestBegan > endedAt) {
      this.#violation(`a read of key ${key} saw ${length} values before all were written`)
    }
  }

  /** A read whose place in the order was known when it ended; its writes had begun by then. */
  #checkOldRead({ key, last }: Pick<Read, 'key' | 'last'>, length: number): void {
    const expected = this.#order.slice(0, length).findLast((value) => value % KEYS === key) ?? 0
    if (last === expected) return
    this.#violation(`key ${key} had ${expected} at ${length}, a read said ${last}`)
  }

  #lost(position: number): void {
    const value = this.#acknowledged.get(position)
    this.#violation(`acknowledged write ${value} is lost: position ${position} holds another`)
  }

  #seen(length: number): void {
    this.#now += 1
    this.#floor = Math.max(this.#floor, length)
  }

  #violation(text: string): void {
    this.violations.push(text)
  }
}
