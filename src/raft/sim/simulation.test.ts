/**
 * The simulator's own promises, and its verdict on the production runtime. A failure names its
 * seed: `npm run sim -- --seed <seed>` repeats, shrinks and saves it.
 */
import test from 'ava'
import { scriptOf, simulate, type Outcome } from './simulation.ts'

/** Seeds in a normal test run: about half a minute on one core. */
const SEEDS = 300

async function runSeeds(first: number, count: number): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = []
  for (let seed = first; seed < first + count; seed += 1) {
    outcomes.push(await simulate(scriptOf(seed)))
  }
  return outcomes
}

function sum(outcomes: readonly Outcome[], of: (outcome: Outcome) => number): number {
  return outcomes.reduce((total, outcome) => total + of(outcome), 0)
}

// Runs must not overlap, so one test does them all.
test.serial('no fault breaks a promise, and when faults end the group goes on', async (t) => {
  t.timeout(300_000)
  const outcomes = await runSeeds(1, SEEDS)
  const failures = outcomes.flatMap(({ failure }, position) =>
    failure === undefined ? [] : [{ seed: position + 1, ...failure }],
  )
  t.deepEqual(failures, [], 'see `npm run sim -- --seed <seed>`')
  // Runs in which nothing happens prove nothing.
  t.true(sum(outcomes, ({ writes }) => writes) > 100 * SEEDS)
  t.true(sum(outcomes, ({ reads }) => reads) > 40 * SEEDS)
  t.true(sum(outcomes, ({ boundedReads }) => boundedReads) > 10 * SEEDS)
  t.true(sum(outcomes, ({ recoveries }) => recoveries) > SEEDS / 10)
  t.true(sum(outcomes, ({ leaders }) => leaders) > 3 * SEEDS)
  t.true(sum(outcomes, ({ changes }) => changes) > SEEDS)
  t.true(sum(outcomes, ({ snapshots }) => snapshots) > SEEDS)
  t.true(sum(outcomes, ({ searched }) => searched) > SEEDS / 2)
})

test.serial('a seed gives the same course, event for event, every time', async (t) => {
  const first = await runSeeds(501, 10)
  const second = await runSeeds(501, 10)
  t.deepEqual(first, second)
  t.is(new Set(first.map(({ hash }) => hash)).size, first.length, 'and each seed its own')
})

test.serial('nothing simulated can see the real time', async (t) => {
  const { sealRealm } = await import('./sealed-realm.ts')
  const before = Date.now()
  const unseal = sealRealm()
  try {
    t.throws(() => Date.now(), { message: /is real/ })
    t.throws(() => setTimeout(() => {}, 1), { message: /is real/ })
    t.throws(() => Math.random(), { message: /is real/ })
    t.throws(() => performance.now(), { message: /is real/ })
  } finally {
    unseal()
  }
  t.true(Date.now() >= before)
})
