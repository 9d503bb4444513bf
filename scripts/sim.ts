/**
 * The Raft simulator from the command line.
 *
 *   node scripts/sim.ts --seeds 1000 [--from 1] [--workers 2]    many seeds
 *   node scripts/sim.ts --seed 42                                one; shrinks and saves a failure
 *   node scripts/sim.ts --trace FILE                             a saved run
 *   node scripts/sim.ts --mutation NAME [--seeds 2000]           with a mistake planted
 *   node scripts/sim.ts --seed 42 --mutation NAME --save         ... and its failure kept
 *   node scripts/sim.ts --mutations [--only A,B] [--seeds 2000]               all mistakes, as a table
 *
 * Exits with 1 when a run failed (with `--mutations`: when a mistake was not found).
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'
import { Worker } from 'node:worker_threads'
import { MUTANTS, mutantNamed } from '../src/raft/sim/mutants.ts'
import { plant } from '../src/raft/sim/mutation-loader.ts'
import type { SeedOutcome, WorkerTask } from '../src/raft/sim/sim-worker.ts'
import type { Script } from '../src/raft/sim/simulation.ts'
import { endWithUsage, HELP, parseCommandLine } from './usage.ts'
import type { Mutant } from '../src/raft/sim/mutant.ts'

const WORKER = new URL('../src/raft/sim/sim-worker.ts', import.meta.url)
const REGRESSIONS = new URL('../src/raft/sim/regressions/', import.meta.url)
/** Seeds that a mistake is looked for in, unless said otherwise. */
const MUTATION_SEEDS = 2000
const PROGRESS_MS = 5000
const USAGE = `usage: node scripts/sim.ts [--seeds N] [--from N] [--workers N] [--mutation NAME]
       node scripts/sim.ts --seed N [--mutation NAME [--save]]
       node scripts/sim.ts --trace FILE [--mutation NAME]
       node scripts/sim.ts --mutations [--only NAME,NAME] [--seeds N] [--from N] [--workers N]
`

const { values } = parseCommandLine(USAGE, {
  options: {
    seeds: { type: 'string' },
    from: { type: 'string', default: '1' },
    seed: { type: 'string' },
    workers: { type: 'string', default: '1' },
    trace: { type: 'string' },
    mutation: { type: 'string' },
    mutations: { type: 'boolean', default: false },
    only: { type: 'string' },
    save: { type: 'boolean', default: false },
    help: HELP,
  },
})

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

/** Runs seeds in workers; `onSeed` returns false to stop. */
async function runSeeds(
  task: Omit<WorkerTask, 'step'>,
  workers: number,
  onSeed: (seed: SeedOutcome) => boolean,
): Promise<void> {
  const running = Array.from({ length: workers }, (_, position) => {
    const workerData: WorkerTask = { ...task, from: task.from + position, step: workers }
    return new Worker(WORKER, { workerData })
  })
  const stop = (): void => {
    for (const worker of running) void worker.terminate()
  }
  await Promise.all(
    running.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          worker.on('message', (seed: SeedOutcome) => {
            if (!onSeed(seed)) stop()
          })
          worker.on('error', reject)
          worker.on('exit', () => resolve())
        }),
    ),
  )
}

async function many(): Promise<void> {
  const from = Number(values.from)
  const seeds = Number(values.seeds ?? 300)
  const startMs = performance.now()
  let [done, events, failed, toldMs] = [0, 0, 0, startMs]
  const rate = (): string => {
    const seconds = (performance.now() - startMs) / 1000
    return `${done} of ${seeds} seeds, ${Math.round(events / seconds)} events/s, ${failed} failed`
  }
  const task = { from, end: from + seeds, mutation: values.mutation, firstOnly: false }
  await runSeeds(task, Number(values.workers), ({ seed, outcome }) => {
    done += 1
    events += outcome.events
    if (outcome.failure !== undefined) {
      failed += 1
      const { invariant, detail } = outcome.failure
      print(`seed ${seed}: ${invariant}: ${detail}\n  node scripts/sim.ts ${repeat(seed)}`)
    }
    if (performance.now() - toldMs > PROGRESS_MS) {
      toldMs = performance.now()
      print(rate())
    }
    return true
  })
  print(rate())
  process.exitCode = failed > 0 ? 1 : 0
}

function repeat(seed: number): string {
  return `--seed ${seed}${values.mutation === undefined ? '' : ` --mutation ${values.mutation}`}`
}

/** Runs one script; a failure is shrunk and saved. */
async function one(script: Script): Promise<void> {
  const { simulate } = await import('../src/raft/sim/simulation.ts')
  const { shrink } = await import('../src/raft/sim/shrink.ts')
  const { describeFailure, writeTrace } = await import('../src/raft/sim/trace-file.ts')
  const outcome = await simulate(script)
  print(JSON.stringify(outcome, undefined, 2))
  if (outcome.failure === undefined) return
  process.exitCode = 1
  print(`shrinking ${script.actions.length} actions ...`)
  const smallest = await shrink(script, async (tried) => (await simulate(tried)).failure?.invariant)
  const { failure } = await simulate(smallest)
  if (failure === undefined) return
  print(`${smallest.actions.length} actions are left: ${describeFailure(failure)}`)
  const planted = values.mutation === undefined ? '' : `${values.mutation}-`
  const file = new URL(`${planted}${failure.invariant}-${script.seed}.jsonl`, REGRESSIONS)
  if (planted === '' || values.save) {
    mkdirSync(REGRESSIONS, { recursive: true })
    writeFileSync(file, writeTrace(smallest, describeFailure(failure)))
    print(`saved as ${file.pathname}`)
  } else print(writeTrace(smallest, describeFailure(failure)))
}

interface Kill {
  readonly mutant: Mutant
  readonly seeds: number
  /** `undefined`: it survived. */
  readonly invariant: string | undefined
}

async function hunt(mutant: Mutant): Promise<Kill> {
  const from = Number(values.from)
  const end = from + Number(values.seeds ?? MUTATION_SEEDS)
  let seeds = 0
  let invariant: string | undefined
  const task = { from, end, mutation: mutant.name, firstOnly: true }
  await runSeeds(task, Number(values.workers), ({ seed, outcome }) => {
    seeds += 1
    if (outcome.failure !== undefined) process.stderr.write(`${mutant.name}: seed ${seed}\n`)
    invariant ??= outcome.failure?.invariant
    return invariant === undefined
  })
  return { mutant, seeds, invariant }
}

async function mutations(): Promise<void> {
  const names = values.only?.split(',')
  print('| mistake | family | killed after seeds | by |\n| --- | --- | --- | --- |')
  let survivors = 0
  for (const mutant of MUTANTS) {
    if (names?.includes(mutant.name) === false) continue
    const { seeds, invariant } = await hunt(mutant)
    if (invariant === undefined) survivors += 1
    const { name, family, mistake } = mutant
    const killed = invariant === undefined ? `alive after ${seeds}` : String(seeds)
    print(`| \`${name}\`: ${mistake} | ${family} | ${killed} | ${invariant ?? '–'} |`)
  }
  print(`\n${survivors} survived`)
  process.exitCode = survivors > 0 ? 1 : 0
}

function wantNumber(name: 'seeds' | 'from' | 'seed' | 'workers'): void {
  const value = values[name]
  if (value === undefined || /^[1-9][0-9]{0,9}$/.test(value)) return
  endWithUsage(USAGE, `--${name} wants a number from 1`)
}

async function main(): Promise<void> {
  for (const name of ['seeds', 'from', 'seed', 'workers'] as const) wantNumber(name)
  for (const name of [values.mutation ?? [], values.only?.split(',') ?? []].flat()) {
    if (mutantNamed(name) === undefined) endWithUsage(USAGE, `no mutation is called ${name}`)
  }
  if (values.mutations) return mutations()
  if (values.trace === undefined && values.seed === undefined) return many()
  if (values.mutation !== undefined) {
    const mutant = mutantNamed(values.mutation)
    if (mutant !== undefined) plant(mutant)
  }
  const { scriptOf } = await import('../src/raft/sim/simulation.ts')
  const { readTrace } = await import('../src/raft/sim/trace-file.ts')
  if (values.trace === undefined) return one(scriptOf(Number(values.seed)))
  return one(readTrace(readFileSync(values.trace, 'utf8')))
}

await main()
