/** The example does what it says, and ends. */
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'

const at = (name: string): string => join(import.meta.dirname, name)

test('a replicated map survives the death of its leader', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, [at('main.ts')])
  const lines = stdout.trimEnd().split('\n')
  t.is(lines.length, 8)
  const [first, , killed, after, ...rest] = lines
  t.regex(first ?? '', /^127\S+ leads and sets shape = round$/)
  t.regex(killed ?? '', /^127\S+ is killed$/)
  t.regex(after ?? '', /leads and sets colour = blue$/)
  t.not(after?.split(' ')[0], killed?.split(' ')[0])
  t.true(rest.slice(0, 3).every((line) => line.endsWith('reads round, blue')))
  t.true(rest[2]?.startsWith(killed?.split(' ')[0] ?? ''), 'the killed member reads it, too')
  t.is(rest[3], 'all have stopped')
})

test('the whole example has under 100 lines', (t) => {
  const texts = ['main.ts', 'member.ts'].map((name) => readFileSync(at(name), 'utf8'))
  t.true(texts.join('').trimEnd().split('\n').length < 100)
})
