/**
 * What must hold for states that operators bring from outside (`Raft.restore`): each is in force
 * whole, at one place, on every member; and at none, when its operator was told so.
 */
import type { Index } from '../core/entry.ts'
import type { RegisterMachine } from './register-machine.ts'
import type { Verdict } from './verdict.ts'

/** A state from outside: what each register is to hold. Its number is never used twice. */
export interface OutsideState {
  readonly id: number
  readonly values: ReadonlyMap<number, number>
}

/** Invariants of restores. */
export class RestoreChecks {
  readonly #verdict: Verdict
  readonly #states = new Map<number, OutsideState>()
  /** Where each took the place of all that was before. */
  readonly #places = new Map<number, Index>()
  readonly #refused = new Set<number>()

  constructor(verdict: Verdict) {
    this.#verdict = verdict
  }

  /** An operator begins to bring `state`. */
  begin(state: OutsideState): void {
    this.#states.set(state.id, state)
  }

  /** The machine of `node` was given a state at `index`. */
  onReplaced(node: string, index: Index, machine: RegisterMachine): void {
    const id = machine.hash
    const place = this.#places.get(id) ?? index
    this.#places.set(id, place)
    if (place !== index) {
      const detail = `${node} restores state ${id} at ${index}, others did at ${place}`
      this.#verdict.fail('state-machine-safety', detail)
    }
    if (this.#refused.has(id)) this.#haunt(id)
    const values = this.#states.get(id)?.values
    const isWhole = values !== undefined && machine.holds(values)
    if (!isWhole) {
      this.#verdict.fail('state-machine-safety', `${node} restored a part of state ${id}`)
    }
  }

  /** Where a state was put in force, if it was. */
  placeOf(id: number): Index | undefined {
    return this.#places.get(id)
  }

  /** An operator was told that nothing happened. */
  onRefused(id: number): void {
    this.#refused.add(id)
    if (this.#places.has(id)) this.#haunt(id)
  }

  #haunt(id: number): void {
    this.#verdict.fail('client-truth', `restore ${id} was said to have no effect, but has one`)
  }
}
