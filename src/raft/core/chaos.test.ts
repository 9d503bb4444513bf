import test from 'ava'
import { errorText } from '../../base/errors.ts'
import { runChaos, type ChaosResult } from '../testing/chaos-run.ts'

/** Seeds in a normal test run; about two seconds. */
const SEEDS = 300

/** Runs seeds [first, first + count). Each failure names its seed: `runChaos(seed)` repeats it. */
function runSeeds(first: number, count: number): { results: ChaosResult[]; failures: string[] } {
  const results: ChaosResult[] = []
  const failures: string[] = []
  for (let seed = first; seed < first + count; seed += 1) {
    try {
      results.push(runChaos(seed))
    } catch (error) {
      failures.push(`runChaos(${seed}): ${errorText(error)}`)
    }
  }
  return { results, failures }
}

function sum(results: readonly ChaosResult[], of: (result: ChaosResult) => number): number {
  return results.reduce((total, result) => total + of(result), 0)
}

test('no disorder breaks safety, and when it ends the group goes on', (t) => {
  const { results, failures } = runSeeds(0, SEEDS)
  t.deepEqual(failures, [])
  // A run in which nothing happens proves nothing.
  t.true(sum(results, ({ applied }) => applied) > 50 * SEEDS)
  t.true(sum(results, ({ reads }) => reads) > 10 * SEEDS)
  t.true(sum(results, ({ leaders }) => leaders) > 2 * SEEDS)
  t.true(sum(results, ({ restarts }) => restarts) > 2 * SEEDS)
})

test('a seed gives the same run every time', (t) => {
  for (const seed of [1, 2, 3, 4, 5]) t.deepEqual(runChaos(seed), runChaos(seed))
})

// Seeds that once found a defect of the core or of its rules.
const REGRESSIONS = {
  'changes handed out before a snapshot are not applied to its configuration': [824, 1622],
  'voters learn from a leader that left that they need it no more': [1099, 1772, 1779, 2244, 2411],
}

for (const [title, seeds] of Object.entries(REGRESSIONS)) {
  test(title, (t) => {
    for (const seed of seeds) t.deepEqual(runSeeds(seed, 1).failures, [])
  })
}
