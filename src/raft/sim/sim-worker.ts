/**
 * Runs seeds in a thread of its own, with a mistake planted if one is named. The thread asks for
 * seeds and tells what became of each.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { defined } from '../../base/assert.ts'
import { plant } from './mutation-loader.ts'
import { mutantNamed } from './mutants.ts'
import type { Outcome } from './simulation.ts'

/** What a worker is made with. */
export interface WorkerTask {
  /** Seeds from, from + step, ... below end. */
  readonly from: number
  readonly step: number
  readonly end: number
  readonly mutation: string | undefined
  /** Stops at the first failure. */
  readonly firstOnly: boolean
}

/** What a worker tells. */
export interface SeedOutcome {
  readonly seed: number
  readonly outcome: Outcome
}

const port = defined(parentPort ?? undefined, 'the port of a worker')
const task = workerData as WorkerTask
if (task.mutation !== undefined) plant(defined(mutantNamed(task.mutation), task.mutation))
// Imported now, since the mistake must be planted first.
const { scriptOf, simulate } = await import('./simulation.ts')
for (let seed = task.from; seed < task.end; seed += task.step) {
  const outcome = await simulate(scriptOf(seed))
  port.postMessage({ seed, outcome } satisfies SeedOutcome)
  if (task.firstOnly && outcome.failure !== undefined) break
}
