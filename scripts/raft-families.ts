/**
 * Proves that every family of bugs has a test that fails when the mistake is made: plants each
 * mistake of `src/raft/testing/families.ts`, one at a time, and runs the test that must notice it.
 *
 *   node scripts/raft-families.ts [--only NAME,NAME] [--write]
 *
 * Each file of tests is run once without a mistake first: there they must pass. `--write` makes
 * `docs/raft-families.md`. Exits with 1 when a mistake was not noticed.
 */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describeProof, mistakeNamed, PROOFS, type Proof } from '../src/raft/testing/families.ts'
import { HELP, parseCommandLine } from './usage.ts'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const AVA = fileURLToPath(new URL('../node_modules/.bin/ava', import.meta.url))
const PRELOAD = new URL('../src/raft/testing/plant-mistake.ts', import.meta.url).href
const TABLE = new URL('../docs/raft-families.md', import.meta.url)

/** Titles of the tests that passed and failed. */
interface Outcome {
  readonly passed: number
  readonly failed: number
}

const USAGE = 'usage: node scripts/raft-families.ts [--only NAME,NAME] [--write]\n'
const { values } = parseCommandLine(USAGE, {
  options: { only: { type: 'string' }, write: { type: 'boolean', default: false }, help: HELP },
})

function runTests(file: string, titles: readonly string[], mistake?: string): Outcome {
  const matches = titles.flatMap((title) => ['--match', title])
  const planted = { RAFT_MISTAKE: mistake, NODE_OPTIONS: `--import ${PRELOAD}` }
  const { stdout } = spawnSync(AVA, ['--tap', `src/raft/${file}`, ...matches], {
    cwd: ROOT,
    encoding: 'utf8',
    env: { ...process.env, ...(mistake === undefined ? {} : planted) },
  })
  const count = (pattern: RegExp): number => stdout.match(pattern)?.length ?? 0
  return { passed: count(/^ok \d+ - (?!.*# SKIP)/gm), failed: count(/^not ok \d+ - /gm) }
}

/** Whether every test passes while nothing is wrong. */
function controlPasses(proofs: readonly Proof[]): boolean {
  const byFile = Map.groupBy(proofs, ({ file }) => file)
  for (const [file, tests] of byFile) {
    const titles = [...new Set(tests.map(({ title }) => title))]
    const { passed, failed } = runTests(file, titles)
    if (failed === 0 && passed === titles.length) continue
    process.stdout.write(`${file}: ${passed} of ${titles.length} pass without any mistake\n`)
    return false
  }
  return true
}

function isNoticed({ mistake, file, title }: Proof): boolean {
  const { passed, failed } = runTests(file, [title], mistake)
  const noticed = failed > 0 && passed === 0
  const family = mistakeNamed(mistake)?.family ?? 0
  process.stdout.write(`${family} ${mistake}: ${noticed ? 'noticed' : 'NOT NOTICED'}\n`)
  return noticed
}

const names = values.only?.split(',')
const proofs = PROOFS.filter(({ mistake }) => names?.includes(mistake) ?? true)
const noticed = controlPasses(proofs) ? proofs.filter(isNoticed) : []
process.stdout.write(`${noticed.length} of ${proofs.length} mistakes are noticed\n`)
if (noticed.length < proofs.length || proofs.length === 0) process.exitCode = 1
else if (values.write && names === undefined) {
  const rows = PROOFS.map(describeProof)
  const head = [
    '# A test for every family of bugs',
    '',
    'Families 1 to 29 are those of reference/raft.md §1.2: bugs that etcd, hashicorp and others had. Each',
    'mistake below is planted in the production source while it is loaded; the test beside it must then',
    'fail, and does. `node scripts/raft-families.ts` does that again for all of them; `--write` makes this',
    'page. Where the simulator finds a mistake, too, [raft-mutations.md](raft-mutations.md) says how soon.',
    '',
    '| family | mistake | test that fails |',
    '| --- | --- | --- |',
  ]
  writeFileSync(TABLE, `${[...head, ...rows].join('\n')}\n`)
}
