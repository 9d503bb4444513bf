/**
 * Runs that once failed are run for ever; and the means to find, shrink and keep them work: mistakes
 * that are planted are found.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import { MUTANTS } from './mutants.ts'
import { applyPatch } from './mutation-loader.ts'
import { shrink } from './shrink.ts'
import type { SeedOutcome, WorkerTask } from './sim-worker.ts'
import { scriptOf, simulate } from './simulation.ts'
import { readTrace, writeTrace } from './trace-file.ts'
import type { Invariant } from './verdict.ts'

const DIRECTORY = new URL('regressions/', import.meta.url)

for (const file of readdirSync(DIRECTORY).toSorted()) {
  const trace = readTrace(readFileSync(new URL(file, DIRECTORY), 'utf8'))
  test.serial(`${file} fails no more: ${trace.why.slice(0, 80)}`, async (t) => {
    t.is((await simulate(trace)).failure, undefined)
  })
}

test('every planted mistake has its one place in the source, and a name of its own', (t) => {
  for (const { name, patches } of MUTANTS) {
    for (const patch of patches) {
      const source = readFileSync(new URL(`../${patch.file}`, import.meta.url), 'utf8')
      t.notThrows(() => applyPatch(source, patch), name)
    }
  }
  t.is(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length)
})

/** Runs seeds with a mistake planted until one fails; the invariant that it breaks. */
async function hunt(mutation: string | undefined): Promise<Invariant | undefined> {
  const workerData: WorkerTask = { from: 1, step: 1, end: 20, mutation, firstOnly: true }
  const worker = new Worker(new URL('sim-worker.ts', import.meta.url), { workerData })
  const { promise, resolve, reject } = Promise.withResolvers<Invariant | undefined>()
  let found: Invariant | undefined
  worker.on('message', ({ outcome }: SeedOutcome) => {
    found ??= outcome.failure?.invariant
  })
  worker.on('error', reject)
  worker.on('exit', () => resolve(found))
  return promise
}

test('planted mistakes are found, and nothing is found without', async (t) => {
  t.is(await hunt(undefined), undefined)
  t.is(await hunt('vote-forgotten'), 'vote-durability')
  t.is(await hunt('snapshot-acknowledged-early'), 'ack-before-sync')
  t.is(await hunt('refused-though-in-the-log'), 'client-truth')
})

test('a failing run is shrunk to what makes it fail', async (t) => {
  const script = scriptOf(7)
  const [first, second] = [script.actions[10], script.actions.at(-10)]
  const smallest = await shrink(script, async ({ actions }) => {
    const both = [first, second].every((each) => actions.some((action) => action === each))
    return both ? 'liveness' : undefined
  })
  t.deepEqual(smallest.actions, [first, second])
  t.false(smallest.plan.network.reorders)
})

test('a trace file holds a whole run', async (t) => {
  const script = scriptOf(11)
  const read = readTrace(writeTrace(script, 'a test'))
  t.is(read.why, 'a test')
  t.is((await simulate(read)).hash, (await simulate(script)).hash)
})
