import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { replayScript } from './replay.ts'
import { argument, parseScript } from './script.ts'

const DATA = fileURLToPath(new URL('../core/testdata/etcd', import.meta.url))

/** Files and cases of each suite, so that a lost file or a lenient parser is noticed. */
const SUITES = [
  { directory: 'quorum/testdata', files: 4, cases: 127 },
  { directory: 'confchange/testdata', files: 9, cases: 58 },
  { directory: 'testdata', files: 20, cases: 383 },
] as const

for (const { directory, files, cases } of SUITES) {
  test(`etcd's ${cases} cases in ${directory} pass byte for byte`, (t) => {
    const names = readdirSync(`${DATA}/${directory}`)
    t.is(names.length, files)
    let total = 0
    for (const name of names) {
      for (const { test: scriptCase, actual } of replayScript(
        readFileSync(`${DATA}/${directory}/${name}`, 'utf8'),
      )) {
        total += 1
        t.is(actual, scriptCase.expected, `${directory}/${name}:${scriptCase.line}`)
      }
    }
    t.is(total, cases)
  })
}

const OWN = fileURLToPath(new URL('testdata-own', import.meta.url))

for (const name of readdirSync(OWN)) {
  const title = name.replace('.txt', '').replaceAll('_', ' ')
  test(`own script, of what the given ones leave out: ${title}`, (t) => {
    const results = replayScript(readFileSync(`${OWN}/${name}`, 'utf8'))
    t.true(results.length > 0)
    for (const { test: scriptCase, actual } of results)
      t.is(actual, scriptCase.expected, `${name}:${scriptCase.line}`)
  })
}

test('a script has arguments of every form, comments, continued lines and trimmed input', (t) => {
  const [first, second] = parseScript(
    '# comment\n\ndo a b=1 c= d=(x, (y,z)) \\\n  e=(1,2)\n\n input \n\n----\nout\n\n# next\nmore\n----\n',
  )
  t.is(first?.command, 'do')
  t.deepEqual(first?.args, [
    { key: 'a', values: [] },
    { key: 'b', values: ['1'] },
    { key: 'c', values: [''] },
    { key: 'd', values: ['x', '(y,z)'] },
    { key: 'e', values: ['1', '2'] },
  ])
  t.is(first?.input, 'input')
  t.is(first?.expected, 'out\n')
  t.is(second?.command, 'more')
  t.is(second?.expected, '')
})

test('output between doubled separators may hold blank lines', (t) => {
  const [only, after] = parseScript('do\n----\n----\na\n\nb\n----\n----\n\ndo x=y\n----\nok\n')
  t.is(only?.expected, 'a\n\nb\n')
  t.deepEqual(after === undefined ? undefined : argument(after, 'x'), ['y'])
})

test('a script whose output differs fails', (t) => {
  const [result] = replayScript('vote cfg=(1) votes=(y)\n----\nVoteLost\n')
  t.false(result?.passed)
  t.is(result?.actual, 'VoteWon\n')
})
