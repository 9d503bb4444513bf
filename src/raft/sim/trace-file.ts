/**
 * A run as a file, to be kept and replayed: JSON lines, the first the plan and why the run is
 * kept, each further one an action.
 */
import { SwarmError } from '../../base/errors.ts'
import type { Plan } from './plan.ts'
import type { Script } from './simulation.ts'
import type { Failure } from './verdict.ts'
import type { Action } from './actions.ts'

interface Head {
  readonly seed: number
  /** The defect that this run once showed. */
  readonly why: string
  readonly plan: Plan
}

/** The text of a trace file. */
export function writeTrace({ seed, plan, actions }: Script, why: string): string {
  const head: Head = { seed, why, plan }
  return `${[head, ...actions].map((line) => JSON.stringify(line)).join('\n')}\n`
}

/** What a trace file holds. @throws INVALID_ARGUMENT */
export function readTrace(text: string): Script & { readonly why: string } {
  const [head, ...lines] = text.trimEnd().split('\n')
  if (head === undefined || head === '') {
    throw new SwarmError('INVALID_ARGUMENT', 'trace file: is empty')
  }
  const { seed, why, plan } = JSON.parse(head) as Head
  return { seed, why, plan, actions: lines.map((line) => JSON.parse(line) as Action) }
}

/** Why a failed run is kept. */
export function describeFailure({ invariant, detail, atMs }: Failure): string {
  return `${invariant} at ${Math.round(atMs)} ms: ${detail}`
}
