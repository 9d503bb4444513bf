/** The stage of one episode: the time, the dice, and the actions that it adds. */
import type { Dice } from './dice.ts'
import { electionMs, type Plan } from './plan.ts'
import { NUMBERS } from './schedule.ts'
import type { Action, Change, Shape, Who } from './actions.ts'

/** Draws actions of one episode. */
export type Episode = (scene: Scene) => void

/** One episode in the making. */
export class Scene {
  readonly dice: Dice
  readonly unitMs: number
  readonly #plan: Plan
  readonly #added: Action[]
  readonly #at: number

  constructor(
    dice: Dice,
    plan: Plan,
    { at, added }: { readonly at: number; readonly added: Action[] },
  ) {
    this.dice = dice
    this.unitMs = electionMs(plan)
    this.#plan = plan
    this.#at = at
    this.#added = added
  }

  someone(): number {
    return this.dice.integer(0, NUMBERS - 1)
  }

  /** Mean delay of a message, in election timeouts. */
  get delay(): number {
    const { minDelayMs, meanDelayMs } = this.#plan.network
    return (minDelayMs + meanDelayMs) / this.unitMs
  }

  atMs(after: number): number {
    return (this.#at + after) * this.unitMs
  }

  add(action: Action): void {
    this.#added.push(action)
  }

  write(after: number, who: Who, count: number): void {
    const { keys, padding } = this.#plan
    const key = this.dice.integer(1, keys)
    const swap = this.dice.chance(0.3)
    this.add({ atMs: this.atMs(after), type: 'write', who, key, count, swap, padding })
  }

  read(after: number, who: Who): void {
    this.add({
      atMs: this.atMs(after),
      type: 'read',
      who,
      key: this.dice.integer(1, this.#plan.keys),
    })
  }

  crash(after: number, who: Who, length: number): void {
    this.add({ atMs: this.atMs(after), type: 'crash', who, forMs: length * this.unitMs })
  }

  change(after: number, change: Change): void {
    this.add({ atMs: this.atMs(after), type: 'member', change, who: this.someone() })
  }

  /** A key of the run. */
  key(): number {
    return this.dice.integer(1, this.#plan.keys)
  }

  get voters(): number {
    return this.#plan.voters
  }

  isolate(after: number, who: Who, length: number): void {
    const forMs = length * this.unitMs
    this.add({ atMs: this.atMs(after), type: 'partition', shape: 'isolate', who, sides: 0, forMs })
  }

  partition(after: number, cut: { shape: Shape; who: Who; sides: number }, length: number): void {
    this.add({ atMs: this.atMs(after), type: 'partition', ...cut, forMs: length * this.unitMs })
  }

  /** What carries entries does not reach `machines`; votes and heartbeats do. */
  blackHole(after: number, machines: number, length: number): void {
    const [atMs, forMs] = [this.atMs(after), length * this.unitMs]
    this.add({ atMs, type: 'storm', machines, loss: 0, blackHole: true, forMs })
  }

  slowDisk(after: number, who: Who, mean: number, length: number): void {
    const { unitMs } = this
    const [meanMs, forMs] = [mean * unitMs, length * unitMs]
    this.add({ atMs: this.atMs(after), type: 'slowDisk', who, meanMs, forMs })
  }
}
