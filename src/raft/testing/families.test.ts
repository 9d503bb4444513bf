import { existsSync, readFileSync } from 'node:fs'
import test from 'ava'
import { applyPatch } from '../sim/mutation-loader.ts'
import { describeProof, FAMILIES, familyOf, mistakeNamed, PROOFS } from './families.ts'

const read = (file: string): string => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')

test('every bug family has a mistake and a test that notices it', (t) => {
  const covered = new Set(PROOFS.map(familyOf))
  for (let family = 1; family <= FAMILIES; family += 1) t.true(covered.has(family), `${family}`)
})

test('every mistake of a family has its place, and changes what is there', (t) => {
  for (const { mistake } of PROOFS) {
    for (const patch of mistakeNamed(mistake)?.patches ?? []) {
      const source = read(patch.file)
      t.not(applyPatch(source, patch), source)
    }
  }
})

test('every test that notices a mistake exists', (t) => {
  const scripts = "etcd's 383 cases in testdata pass byte for byte"
  for (const { file, title } of PROOFS) {
    const own = title.replace(/^own script, .*: /, '').replaceAll(' ', '_')
    const named = read(file).includes(title) || title === scripts
    t.true(named || existsSync(new URL(`testdata-own/${own}.txt`, import.meta.url)), title)
  }
})

test('the documented table is the one of the tests', (t) => {
  const documented = readFileSync(
    new URL('../../../docs/raft-families.md', import.meta.url),
    'utf8',
  )
  const rows = documented.split('\n').filter((line) => /^\| \d/.test(line))
  t.deepEqual(rows, PROOFS.map(describeProof))
})
