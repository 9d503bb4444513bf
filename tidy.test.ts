/**
 * The written rules of layout, executed: who may import whom, how long files and lines may be, what may
 * not appear where. The table is DESIGN.md's; a finding says what to do in its place.
 */
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import test from 'ava'

/** A room's imports besides its own; `x/y.ts` names one file of a room, `type x` types only. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  raft: ['base'],
  mesh: ['base', 'identity', 'raft'],
  identity: ['base'],
  store: ['base', 'raft'],
  control: ['base', 'store'],
  agent: ['base', 'store', 'image/ports.ts'],
  image: ['base'],
  network: ['base', 'store'],
  cluster: ['base', 'raft', 'mesh', 'identity', 'store', 'control', 'api/ports.ts'],
  api: ['base', 'store', 'control', 'image/ports.ts'],
  cli: ['base', 'api', 'store/spec.ts', 'node.ts', 'node/doctor/doctor.ts'],
}

interface Ban {
  readonly where: RegExp
  readonly what: RegExp
  readonly instead: string
}

const BANNED: readonly Ban[] = [
  {
    where: /^src\/raft\/core\//,
    what: /from 'node:|\b(?:Date\.now|Math\.random|setTimeout|setInterval|performance\.now|process\.)\b/,
    instead: 'raft/core is pure: take time, randomness and input as arguments',
  },
  {
    where:
      /^src\/(?!base\/|node\.ts|node\/doctor\/doctor\.ts|cli\/|.*\.test\.ts|.*\/testing\/|.*\/crash-writer\.ts)/,
    what: /\b(?:systemClock|systemRandom)\b/,
    instead: 'take clock and random as components; only node.ts names the system ones',
  },
  { where: /^src\//, what: /\b(?:FIXME|XXX)\b/, instead: 'finish it' },
  {
    where: /^src\/(?!cli\/|.*\.test\.ts)/,
    what: /\bconsole\./,
    instead: 'use the logger (in cli/, `console` is the terminal that the command was given)',
  },
]

const LINE_COLUMNS_MAX = 100
/** Titles and expected texts of tests stand whole. */
const TEST_LINE_COLUMNS_MAX = 120
const FILE_LINES_MAX = 400

interface Finding {
  readonly at: string
  readonly what: string
}

function* checkFile(path: string, text: string): Generator<Finding> {
  const lines = text.split('\n')
  if (lines.length > FILE_LINES_MAX && !path.endsWith('.test.ts')) {
    yield { at: path, what: `${lines.length} lines; split it by responsibility` }
  }
  for (const [index, line] of lines.entries()) {
    const at = `${path}:${index + 1}`
    // A message stands on one line, so that who reads it can find it.
    const isMessage = /^\s*(?:return |find: |replace: )?['`]/.test(line)
    const columnsMax =
      isMessage || path.endsWith('.test.ts') ? TEST_LINE_COLUMNS_MAX : LINE_COLUMNS_MAX
    if (line.length > columnsMax) yield { at, what: `line has ${line.length} columns` }
    for (const ban of BANNED) {
      if (ban.where.test(path) && ban.what.test(line)) yield { at, what: ban.instead }
    }
    yield* checkImport(path, at, line)
  }
}

function* checkImport(path: string, at: string, line: string): Generator<Finding> {
  const target = /from '(\.[^']*)'/.exec(line)?.[1]
  const layer = path.split('/')[1] ?? ''
  const allowed = LAYERS[layer]
  if (target === undefined || allowed === undefined || path.endsWith('.test.ts')) return
  if (/\/(?:testing|conformance)/.test(path)) return
  const other = relative('src', join(dirname(path), target))
  const room = other.split('/')[0] ?? ''
  if (room === layer || allowed.includes(room) || allowed.includes(other)) return
  yield { at, what: `${layer}/ may not import ${other}` }
}

test('the source tree is tidy', (t) => {
  const findings: Finding[] = []
  for (const path of globSync('src/**/*.ts')) {
    findings.push(...checkFile(path, readFileSync(path, 'utf8')))
  }
  t.deepEqual(
    findings.map((finding) => `${finding.at}: ${finding.what}`),
    [],
  )
})

/** A way from a file back to itself along imports, types included; undefined: there is none. */
function circleOf(imports: ReadonlyMap<string, readonly string[]>): string | undefined {
  const done = new Set<string>()
  const visit = (path: string, above: readonly string[]): string | undefined => {
    if (above.includes(path)) return [...above.slice(above.indexOf(path)), path].join(' → ')
    if (done.has(path)) return undefined
    done.add(path)
    for (const target of imports.get(path) ?? []) {
      const circle = visit(target, [...above, path])
      if (circle !== undefined) return circle
    }
    return undefined
  }
  for (const path of imports.keys()) {
    const circle = visit(path, [])
    if (circle !== undefined) return circle
  }
  return undefined
}

test('no two files import each other, not even types, directly or through others', (t) => {
  const imports = new Map(
    globSync('src/**/*.ts').map((path) => {
      const targets = readFileSync(path, 'utf8').matchAll(/from '(\.[^']*)'/g)
      return [path, [...targets].map((match) => join(dirname(path), match[1] ?? ''))]
    }),
  )
  t.true(imports.size > 0)
  t.is(circleOf(imports), undefined)
  t.is(
    circleOf(
      new Map([
        ['a', ['b']],
        ['b', ['c']],
        ['c', ['b']],
      ]),
    ),
    'b → c → b',
  )
})

test('every dependency has a line of reason in docs/decisions', (t) => {
  const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as {
    dependencies: Record<string, string>
    devDependencies: Record<string, string>
  }
  const reasons = readFileSync('docs/decisions/0001-dependencies.md', 'utf8')
  for (const name of Object.keys({ ...manifest.dependencies, ...manifest.devDependencies })) {
    t.true(reasons.includes(`\`${name}\``), `${name} has no reason`)
  }
})
