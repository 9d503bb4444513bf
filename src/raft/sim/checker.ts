/**
 * Whether a history of one register is linearizable, by search and without any knowledge of the
 * log: some order of the operations must respect real time and give every answer. An operation of
 * unknown outcome may stand anywhere after its call, or nowhere.
 *
 * The search takes any operation whose call comes before the first return that is left, tries it,
 * and goes back when a return cannot be passed; what was tried before (the same operations done,
 * the same value) is not tried again. Source: Wing and Gong 1993; Lowe 2017 (memo).
 */
import { at } from '../../base/assert.ts'

/** One operation on a register. Values are numbers of writes; 0 is the empty register. */
export interface Operation {
  readonly kind: 'read' | 'write'
  readonly key: number
  /** What a write puts there. */
  readonly id: number
  /** A write happens only if this is there; always when `undefined`. */
  readonly expected: number | undefined
  readonly invokedAt: number
  /** Infinite when the outcome is unknown. */
  readonly returnedAt: number
  /** The value before a write, or the value read; `undefined` when unknown. */
  readonly output: number | undefined
}

/** `gaveUp`: the search became too long. */
export type Linearizability = 'linearizable' | 'violation' | 'gaveUp'

/** Steps of a search that are affordable. */
const STEPS_MAX = 200_000

interface Event {
  readonly operation: number
  readonly isCall: boolean
  /** Position of the return of a call. */
  twin: number
  previous: number
  next: number
}

/** Searches for an order. */
export function checkRegister(
  operations: readonly Operation[],
  stepsMax = STEPS_MAX,
): Linearizability {
  return new Search(withoutUnseen(operations)).run(stepsMax)
}

/**
 * All but operations of unknown outcome whose value nobody saw or expected. An order with such a
 * write in it remains one without it: what follows next either overwrites it unseen, or is a swap
 * of unknown outcome that fails, and may be left out as well.
 */
function withoutUnseen(operations: readonly Operation[]): readonly Operation[] {
  const isBlindlyKnown = (operation: Operation): boolean => {
    const { expected, output } = operation
    return isKnown(operation) && expected !== undefined && output === undefined
  }
  if (operations.some(isBlindlyKnown)) return operations
  const seen = new Set(operations.map(({ output }) => output))
  const kept: Operation[] = []
  // The latest first: what only unseen swaps expect is unseen as well.
  for (const operation of operations.toSorted((a, b) => b.invokedAt - a.invokedAt)) {
    const { expected } = operation
    if (!isKnown(operation) && operation.kind === 'write' && !seen.has(operation.id)) continue
    if (expected !== undefined) seen.add(expected)
    kept.push(operation)
  }
  return kept
}

class Search {
  readonly #operations: readonly Operation[]
  /** A linked list; 0 is its head. */
  readonly #events: Event[]
  readonly #done: Uint32Array
  /** The same in pieces of one character each: short keys. */
  readonly #halves: Uint16Array
  readonly #tried = new Set<string>()
  readonly #path: { readonly call: number; readonly value: number }[] = []
  #value = 0
  /** Known outcomes that are not in the order yet. */
  #missing: number

  constructor(operations: readonly Operation[]) {
    this.#operations = operations
    this.#events = toEvents(operations)
    this.#done = new Uint32Array(Math.ceil(operations.length / 32))
    this.#halves = new Uint16Array(this.#done.buffer)
    this.#missing = operations.filter(isKnown).length
  }

  run(stepsMax: number): Linearizability {
    let place = this.#event(0).next
    for (let step = 0; this.#missing > 0; step += 1) {
      if (step > stepsMax) return 'gaveUp'
      const event = place === 0 ? undefined : this.#event(place)
      if (event?.isCall === true) {
        place = this.#take(place) ? this.#event(0).next : event.next
        continue
      }
      // A return that cannot be passed, or the end: the last choice was wrong.
      const last = this.#path.pop()
      if (last === undefined) return 'violation'
      this.#undo(last)
      place = this.#event(last.call).next
    }
    return 'linearizable'
  }

  /** Puts the operation called at `place` next in the order, if it fits and leads somewhere new. */
  #take(place: number): boolean {
    const { operation } = this.#event(place)
    const after = outcome(at(this.#operations, operation), this.#value)
    if (after === undefined) return false
    this.#flip(operation)
    const state = `${after} ${String.fromCharCode(...this.#halves)}`
    if (this.#tried.has(state)) {
      this.#flip(operation)
      return false
    }
    this.#tried.add(state)
    this.#path.push({ call: place, value: this.#value })
    this.#value = after
    this.#unlink(place)
    if (isKnown(at(this.#operations, operation))) this.#missing -= 1
    return true
  }

  #undo({ call, value }: { readonly call: number; readonly value: number }): void {
    const { operation } = this.#event(call)
    this.#value = value
    this.#flip(operation)
    this.#relink(call)
    if (isKnown(at(this.#operations, operation))) this.#missing += 1
  }

  #flip(operation: number): void {
    const word = operation >> 5
    this.#done[word] = (this.#done[word] ?? 0) ^ (1 << (operation & 31))
  }

  /** Takes call and return out of the list. */
  #unlink(call: number): void {
    for (const place of [call, this.#event(call).twin]) {
      const { previous, next } = this.#event(place)
      this.#event(previous).next = next
      this.#event(next).previous = previous
    }
  }

  #relink(call: number): void {
    for (const place of [this.#event(call).twin, call]) {
      const { previous, next } = this.#event(place)
      this.#event(previous).next = place
      this.#event(next).previous = place
    }
  }

  #event(place: number): Event {
    return at(this.#events, place)
  }
}

/** The register after `operation`, or `undefined` when it cannot have answered so. */
function outcome({ kind, id, expected, output }: Operation, value: number): number | undefined {
  if (output !== undefined && output !== value) return undefined
  if (kind === 'read' || (expected !== undefined && expected !== value)) return value
  return id
}

function isKnown({ returnedAt }: Operation): boolean {
  return Number.isFinite(returnedAt)
}

function toEvents(operations: readonly Operation[]): Event[] {
  const order = operations
    .flatMap(({ invokedAt, returnedAt }, operation) => [
      { operation, isCall: true, time: invokedAt },
      { operation, isCall: false, time: returnedAt },
    ])
    .toSorted((a, b) => (a.time === b.time ? 0 : a.time - b.time))
  const events: Event[] = [{ operation: -1, isCall: false, twin: 0, previous: 0, next: 0 }]
  const calls = new Map<number, number>()
  for (const { operation, isCall } of order) {
    const place = events.length
    events.push({ operation, isCall, twin: 0, previous: place - 1, next: 0 })
    at(events, place - 1).next = place
    if (isCall) calls.set(operation, place)
    else at(events, calls.get(operation) ?? 0).twin = place
  }
  at(events, 0).previous = events.length - 1
  return events
}
