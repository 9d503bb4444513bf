/**
 * What clients did and what they were told, and whether that can be: every answer names its place
 * in the log, so real time and the places must agree (witness check, reference/raft.md §4.1), and
 * values must be those at the place. Source: Herlihy and Wing 1990, with a given order.
 */
import type { Index } from '../core/entry.ts'
import type { Operation } from './checker.ts'
import type { MachineChecks } from './machine-checks.ts'
import type { Answer } from './register-machine.ts'
import type { OutsideState } from './restore-checks.ts'
import type { Verdict } from './verdict.ts'

/** A call that was made and has not ended, or never will. */
export interface OpenCall {
  /** A restore writes all registers. */
  readonly kind: 'read' | 'write' | 'restore'
  readonly key: number
  /** The number of the command or the state; 0 for reads. */
  readonly id: number
  readonly expected: number | undefined
  /** What a restore puts into the registers. */
  readonly values?: ReadonlyMap<number, number>
  readonly invokedAt: number
  /** Everything up to here was answered to somebody before this was asked. */
  readonly floor: Index
}

/** Milliseconds that the slowest clock of a simulation counts in a true one (`schedule.ts`). */
const SLOWEST_CLOCK = 0.7

/** All calls of a run. */
export class History {
  readonly #verdict: Verdict
  readonly #machines: MachineChecks
  readonly #operations: Operation[] = []
  readonly #open = new Set<OpenCall>()
  readonly #nowMs: () => number
  /** When what was known rose how far; ascending. */
  readonly #marks: { readonly atMs: number; readonly highest: Index }[] = []
  #highest: Index = 0
  #clock = 0
  readonly #lastValues = new Map<number, number>()
  #ids = 0
  answered = { reads: 0, bounded: 0, writes: 0, restores: 0, refused: 0, unknown: 0 }

  /** `nowMs`: the true time, which no node knows. */
  constructor(verdict: Verdict, machines: MachineChecks, nowMs: () => number) {
    this.#nowMs = nowMs
    this.#verdict = verdict
    this.#machines = machines
  }

  newId(): number {
    this.#ids += 1
    return this.#ids
  }

  /** The value that somebody saw last in a register. */
  lastValue(key: number): number {
    return this.#lastValues.get(key) ?? 0
  }

  begin(call: Omit<OpenCall, 'invokedAt' | 'floor'>): OpenCall {
    this.#clock += 1
    const open = { ...call, invokedAt: this.#clock, floor: this.#highest }
    this.#open.add(open)
    return open
  }

  onWritten(call: OpenCall, index: Index, answer: Answer): void {
    this.answered.writes += 1
    this.#end(call, index, answer.before)
    this.#lastValues.set(call.key, answer.wrote ? call.id : answer.before)
    if (this.#machines.placeOf(call.id) !== index) {
      const detail = `command ${call.id} was answered at ${index}, and stands at`
      this.#verdict.fail('client-truth', `${detail} ${this.#machines.placeOf(call.id)}`)
    }
    const before = this.#machines.valueAt(call.key, index - 1)
    if (answer.before !== before) {
      this.#verdict.fail('client-truth', `command ${call.id} was answered ${answer.before}`)
    }
  }

  onRead(call: OpenCall, index: Index, value: number): void {
    this.answered.reads += 1
    this.#lastValues.set(call.key, value)
    this.#end(call, index, value)
    const expected = this.#machines.valueAt(call.key, index)
    if (value !== expected) {
      const detail = `a read of ${call.key} at ${index} gave ${value}, not ${expected}`
      this.#verdict.fail('linearizability', detail)
    }
  }

  /** A read of what a node had, which was to be at most `boundMs` old by its own clock. */
  onBoundedRead(
    call: OpenCall,
    { index, boundMs }: { readonly index: Index; readonly boundMs: number },
    value: number,
  ): void {
    this.answered.bounded += 1
    this.#open.delete(call)
    const sinceMs = this.#nowMs() - boundMs / SLOWEST_CLOCK
    const floor = this.#marks.findLast(({ atMs }) => atMs < sinceMs)?.highest ?? 0
    const expected = this.#machines.valueAt(call.key, index)
    if (index >= floor && value === expected) return
    const detail = `a bounded read of ${call.key} at ${index} gave ${value}`
    this.#verdict.fail(
      'staleness',
      `${detail}; ${floor} was known long before, ${expected} stood there`,
    )
  }

  /** An operator begins to bring a state from outside. */
  onRestoreBegun(state: OutsideState): void {
    this.#machines.restores.begin(state)
  }

  /** A state from outside took the place of everything, so the operator was told. */
  onRestored(call: OpenCall, index: Index): void {
    this.answered.restores += 1
    this.#end(call, index, undefined)
    for (const [key, value] of call.values ?? []) this.#lastValues.set(key, value)
    const place = this.#machines.restores.placeOf(call.id)
    if (place === index) return
    this.#verdict.fail('client-truth', `restore ${call.id} was answered at ${index}, not ${place}`)
  }

  /** It certainly had no effect. */
  onRefused(call: OpenCall): void {
    this.answered.refused += 1
    this.#open.delete(call)
    if (call.kind === 'write') this.#machines.onRefused(call.id)
    if (call.kind === 'restore') this.#machines.restores.onRefused(call.id)
  }

  /** Nobody knows what became of it. */
  onUnknown(call: OpenCall): void {
    this.answered.unknown += 1
    if (!this.#open.delete(call) || call.kind === 'read') return
    this.#operations.push(...toOperations(call, Number.POSITIVE_INFINITY, undefined))
  }

  /** Calls whose outcome is not known yet. */
  get openCalls(): readonly OpenCall[] {
    return [...this.#open]
  }

  /** What happened to one register, for a search without knowledge of places. */
  operations(key: number): readonly Operation[] {
    const open = [...this.#open].filter((call) => call.kind !== 'read')
    const unknown = open.flatMap((call) => toOperations(call, Number.POSITIVE_INFINITY, undefined))
    return [...this.#operations, ...unknown].filter((operation) => operation.key === key)
  }

  #end(call: OpenCall, index: Index, output: number | undefined): void {
    this.#clock += 1
    this.#open.delete(call)
    this.#operations.push(...toOperations(call, this.#clock, output))
    const inOrder = call.kind === 'read' ? index >= call.floor : index > call.floor
    if (!inOrder) {
      const detail = `a ${call.kind} took place at ${index}, but ${call.floor} was known before`
      this.#verdict.fail('linearizability', detail)
    }
    if (index <= this.#highest) return
    this.#highest = index
    this.#marks.push({ atMs: this.#nowMs(), highest: index })
  }
}

/** One for each register that it concerns. */
function toOperations(
  call: OpenCall,
  returnedAt: number,
  output: number | undefined,
): readonly Operation[] {
  const { kind, key, id, expected, invokedAt, values } = call
  if (kind !== 'restore') return [{ kind, key, id, expected, invokedAt, returnedAt, output }]
  return [...(values ?? [])].map(([register, value]) => {
    const write = { kind: 'write', key: register, id: value, expected } as const
    return { ...write, invokedAt, returnedAt, output }
  })
}
