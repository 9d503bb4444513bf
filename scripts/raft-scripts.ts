/**
 * Replays data-driven Raft scripts: `node scripts/raft-scripts.ts DIRECTORY`. Every `*.txt` below the
 * directory is run; its first command tells its kind. Prints each difference, and last
 * `N passed, M failed` over all cases. Exits with 1 if any failed.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { replayScript, type CaseResult } from '../src/raft/testing/replay.ts'
import { endWithUsage, HELP, parseCommandLine } from './usage.ts'

function report(file: string, { test, actual }: CaseResult): string {
  return [
    `${file}:${test.line}: ${test.command}`,
    '--- expected',
    test.expected.trimEnd(),
    '--- got',
    actual.trimEnd(),
    '',
  ].join('\n')
}

const USAGE = 'usage: node scripts/raft-scripts.ts DIRECTORY\n'
const { positionals } = parseCommandLine(USAGE, {
  options: { help: HELP },
  allowPositionals: true,
})
const [directory] = positionals
if (directory === undefined || !statSync(directory, { throwIfNoEntry: false })?.isDirectory()) {
  endWithUsage(USAGE, directory === undefined ? 'no directory' : `${directory}: no directory`)
}

const files = readdirSync(directory, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.txt'))
  .toSorted()
let passed = 0
let failed = 0
for (const file of files) {
  const results = replayScript(readFileSync(join(directory, file), 'utf8'))
  const failures = results.filter((result) => !result.passed)
  for (const failure of failures) process.stdout.write(`${report(file, failure)}\n`)
  process.stdout.write(`${file}: ${results.length - failures.length} of ${results.length}\n`)
  passed += results.length - failures.length
  failed += failures.length
}
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 && files.length > 0 ? 0 : 1
