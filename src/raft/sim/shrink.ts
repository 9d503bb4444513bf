/**
 * Makes a failing run small: takes actions out, in large pieces first, and simplifies the plan, as
 * long as the same invariant is broken. Source: Zeller and Hildebrandt 2002 (delta debugging).
 */
import type { Plan } from './plan.ts'
import type { Script } from './simulation.ts'
import type { Invariant } from './verdict.ts'

/** Runs a script; says which invariant it breaks. */
export type Try = (script: Script) => Promise<Invariant | undefined>

/** Runs that shrinking may take. */
const TRIES_MAX = 600

/** The smallest script found that breaks the same invariant. */
export async function shrink(script: Script, run: Try, triesMax = TRIES_MAX): Promise<Script> {
  return new Shrinker(run, triesMax).shrink(script)
}

class Shrinker {
  readonly #run: Try
  #triesLeft: number
  #wanted: Invariant | undefined

  constructor(run: Try, triesMax: number) {
    this.#run = run
    this.#triesLeft = triesMax
  }

  async shrink(script: Script): Promise<Script> {
    this.#wanted = await this.#run(script)
    if (this.#wanted === undefined) return script
    let smallest = await this.#shorten(script)
    smallest = await this.#withoutActions(smallest)
    smallest = await this.#simplify(smallest)
    return this.#withoutActions(smallest)
  }

  async #stillFails(script: Script): Promise<boolean> {
    if (this.#triesLeft === 0) return false
    this.#triesLeft -= 1
    return (await this.#run(script)) === this.#wanted
  }

  /** Ends the run earlier. */
  async #shorten(script: Script): Promise<Script> {
    let smallest = script
    for (let timeouts = Math.floor(script.plan.timeouts / 2); timeouts > 1;) {
      const endMs = timeouts * script.plan.tickMs * script.plan.electionTicks
      const actions = smallest.actions.filter(({ atMs }) => atMs < endMs)
      const shorter = { ...smallest, plan: { ...smallest.plan, timeouts }, actions }
      if (!(await this.#stillFails(shorter))) break
      smallest = shorter
      timeouts = Math.floor(timeouts / 2)
    }
    return smallest
  }

  async #withoutActions(script: Script): Promise<Script> {
    let smallest = script
    for (let size = Math.ceil(script.actions.length / 2); size >= 1; size = Math.floor(size / 2)) {
      for (let start = 0; start < smallest.actions.length;) {
        const shorter = { ...smallest, actions: smallest.actions.toSpliced(start, size) }
        if (await this.#stillFails(shorter)) smallest = shorter
        else start += size
      }
    }
    return smallest
  }

  async #simplify(script: Script): Promise<Script> {
    let smallest = script
    for (const simpler of SIMPLER) {
      const tried = { ...smallest, plan: { ...smallest.plan, ...simpler(smallest.plan) } }
      if (await this.#stillFails(tried)) smallest = tried
    }
    return smallest
  }
}

/** Simpler plans, each in one respect. */
const SIMPLER: readonly ((plan: Plan) => Partial<Plan>)[] = [
  ({ network }) => ({ network: { ...network, loss: 0 } }),
  ({ network }) => ({ network: { ...network, duplication: 0 } }),
  ({ network }) => ({ network: { ...network, reorders: false } }),
  ({ network }) => ({ network: { ...network, capacity: 1000 } }),
  ({ network }) => ({ network: { ...network, closeNotice: 0 } }),
  () => ({ drift: 0 }),
  () => ({ applyMs: 0 }),
  () => ({ learners: 0 }),
  () => ({ snapshotThreshold: 500 }),
  () => ({ timersFirst: false }),
]
