import { spawn, spawnSync, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, open, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import test, { type ExecutionContext } from 'ava'
import { isSwarmError } from '../../base/errors.ts'
import { seededRandom } from '../../base/random.ts'
import type { Entry } from '../core/entry.ts'
import { entriesFrom, logStoreConformance } from './conformance.ts'
import { EMPTY_CONFIGURATION } from './empty-log.ts'
import { FileLogStore } from './file-log-store.ts'

const SMALL_SEGMENT_BYTES = 2048
const crashWriter = new URL('crash-writer.ts', import.meta.url).pathname

const newDirectory = (): Promise<string> => mkdtemp(join(tmpdir(), 'skein-raft-file-log-'))

async function temporary(t: ExecutionContext): Promise<string> {
  const directory = await newDirectory()
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

function storeAt(location: string, segmentBytes = SMALL_SEGMENT_BYTES): FileLogStore {
  return new FileLogStore({ location, segmentBytes, random: seededRandom(1) })
}

for (const segmentBytes of [64 * 1024, SMALL_SEGMENT_BYTES / 4]) {
  logStoreConformance(test, `file, segments of ${segmentBytes}`, async () => {
    const location = await newDirectory()
    return {
      store: () => storeAt(location, segmentBytes),
      dispose: () => rm(location, { recursive: true }),
    }
  })
}

const segmentsOf = async (location: string): Promise<string[]> =>
  (await readdir(location)).filter((name) => name.endsWith('.segment')).toSorted()

/** The code of opening, or the entries that were found. */
async function opened(location: string): Promise<string | readonly Entry[]> {
  const store = storeAt(location)
  try {
    const { base, lastIndex } = await store.open()
    return await store.read(base.index + 1, lastIndex + 1)
  } catch (error) {
    if (!isSwarmError(error)) throw error
    return error.code
  } finally {
    await store.close()
  }
}

/** Appends batches of three entries until there are `count`; closes the log. */
async function written(location: string, count: number): Promise<void> {
  const store = storeAt(location)
  await store.open()
  for (let first = 1; first <= count; first += 3) {
    const hardState = { term: 1, vote: 1, commit: first - 1 }
    await store.append({ entries: entriesFrom(first, 3, 1), hardState })
  }
  await store.close()
}

const text = (entries: readonly Entry[]): string[] =>
  entries.map(({ data }) => Buffer.from(data).toString())

test('segments follow each other, and compaction deletes those that it covers', async (t) => {
  const location = await temporary(t)
  await written(location, 90)
  const before = await segmentsOf(location)
  t.true(before.length > 2)
  const store = storeAt(location)
  const { lastIndex } = await store.open()
  await store.compact({ index: lastIndex - 4, term: 1, conf: EMPTY_CONFIGURATION })
  const after = await segmentsOf(location)
  t.true(after.length < before.length)
  t.is(after.at(-1), before.at(-1))
  await store.close()
  const found = await opened(location)
  t.true(typeof found !== 'string' && found.at(-1)?.index === lastIndex && found.length === 4)
})

test('a segment is preallocated, and a write beyond its size still goes', async (t) => {
  const location = await temporary(t)
  const store = storeAt(location)
  await store.open()
  const [name = ''] = await segmentsOf(location)
  t.is((await stat(join(location, name))).size, SMALL_SEGMENT_BYTES)
  const data = new Uint8Array(3 * SMALL_SEGMENT_BYTES).fill(7)
  await store.append({ entries: [{ index: 1, term: 1, type: 'normal', data }] })
  await store.append({ entries: entriesFrom(2, 1, 1) })
  await store.close()
  const found = await opened(location)
  t.true(typeof found !== 'string' && found.length === 2 && found[0]?.data.length === data.length)
})

test('a missing segment is corruption, wherever it was', async (t) => {
  const whole = await temporary(t)
  await written(whole, 120)
  const names = await segmentsOf(whole)
  t.true(names.length > 2)
  for (const name of names) {
    const location = `${whole}.copy`
    await cp(whole, location, { recursive: true })
    await rm(join(location, name))
    t.is(await opened(location), 'STORAGE_CORRUPT')
    await rm(location, { recursive: true })
  }
})

test('what a torn write left is cut, and the log goes on behind it', async (t) => {
  const location = await temporary(t)
  await written(location, 9)
  const [name = ''] = await segmentsOf(location)
  const path = join(location, name)
  const bytes = await readFile(path)
  const last = bytes.lastIndexOf('rLg1')
  // The next write as a crash could leave it: its beginning, or its end without the beginning.
  for (const part of [bytes.subarray(last, last + 40), Buffer.alloc(100, 3)]) {
    const end = Math.ceil((bytes.findLastIndex((byte) => byte !== 0) + 1) / 16) * 16
    const file = await open(path, 'r+')
    await file.write(part, 0, part.length, end)
    await file.close()
    const store = storeAt(location)
    t.like(await store.open(), { tornEntries: 1, lastIndex: 9 })
    await store.close()
  }
  const store = storeAt(location)
  t.like(await store.open(), { tornEntries: 0, lastIndex: 9 })
  await store.append({ entries: entriesFrom(10, 2, 2) })
  await store.close()
  const found = await opened(location)
  t.is(found.length, 11)
})

/** Every way of `damage` at every byte gives a prefix of the log or a refusal. */
async function damagedEverywhere(
  t: ExecutionContext,
  damage: (bytes: Buffer, position: number) => Buffer,
  isMarked: boolean,
): Promise<Map<string, number>> {
  const location = await temporary(t)
  await written(location, 12)
  if (!isMarked) await rm(join(location, 'acknowledged'))
  const mark = isMarked ? await readFile(join(location, 'acknowledged')) : undefined
  const [name = '', ...others] = await segmentsOf(location)
  t.deepEqual(others, [])
  const path = join(location, name)
  const whole = await readFile(path)
  const expected = [1, 4, 7, 10].flatMap((first) => text(entriesFrom(first, 3, 1)))
  const end = whole.findLastIndex((byte) => byte !== 0) + 20
  const outcomes = new Map<string, number>()
  for (let position = 0; position < end; position += 1) {
    await writeFile(path, damage(whole, position))
    if (mark === undefined) await rm(join(location, 'acknowledged'), { force: true })
    else await writeFile(join(location, 'acknowledged'), mark)
    const found = await opened(location)
    const outcome = typeof found === 'string' ? found : `${found.length} entries`
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    if (typeof found === 'string') {
      if (found !== 'STORAGE_CORRUPT') t.fail(`${found} at byte ${position}`)
    } else if (text(found).join() !== expected.slice(0, found.length).join()) {
      t.fail(`wrong entries at byte ${position}`)
    }
  }
  return outcomes
}

const flipped = (bytes: Buffer, position: number): Buffer => {
  const copy = Buffer.from(bytes)
  copy[position] = (copy[position] ?? 0) ^ (1 << (position % 8))
  return copy
}
const cutOff = (bytes: Buffer, position: number): Buffer => bytes.subarray(0, position)
const zeroed = (bytes: Buffer, position: number): Buffer => Buffer.from(bytes).fill(0, position)

test('a flipped bit anywhere: whole or refused, the newest write is known to be lost', async (t) => {
  const outcomes = await damagedEverywhere(t, flipped, true)
  t.deepEqual([...outcomes.keys()].toSorted(), ['12 entries', 'STORAGE_CORRUPT'])
})

test('a flipped bit anywhere, the mark lost too: a prefix or refused', async (t) => {
  const outcomes = await damagedEverywhere(t, flipped, false)
  t.deepEqual([...outcomes.keys()].toSorted(), ['12 entries', '9 entries', 'STORAGE_CORRUPT'])
})

test('a file that ends anywhere: whole or refused with the mark, a prefix without', async (t) => {
  const marked = await damagedEverywhere(t, cutOff, true)
  t.deepEqual([...marked.keys()].toSorted(), ['12 entries', 'STORAGE_CORRUPT'])
  const outcomes = await damagedEverywhere(t, cutOff, false)
  const prefixes = ['0 entries', '12 entries', '3 entries', '6 entries', '9 entries']
  t.deepEqual([...outcomes.keys()].toSorted(), [...prefixes, 'STORAGE_CORRUPT'])
})

test('zeros from anywhere on, as lost blocks leave: a prefix or refused', async (t) => {
  const outcomes = await damagedEverywhere(t, zeroed, false)
  t.is(outcomes.get('9 entries') === undefined, false)
})

test('an older copy of the files betrays that acknowledged writes are lost', async (t) => {
  const location = await temporary(t)
  await written(location, 9)
  const [name = ''] = await segmentsOf(location)
  const older = await readFile(join(location, name))
  const store = storeAt(location)
  await store.open()
  await store.append({ entries: [], hardState: { term: 2, vote: 1, commit: 0 } })
  await store.close()
  await writeFile(join(location, name), older)
  t.is(await opened(location), 'STORAGE_CORRUPT')
})

test('a record of the log inside the data of an entry is data', async (t) => {
  const location = await temporary(t)
  await written(location, 9)
  const [name = ''] = await segmentsOf(location)
  const data = new Uint8Array((await readFile(join(location, name))).subarray(0, 600))
  const store = storeAt(location)
  await store.open()
  await store.append({ entries: [{ index: 10, term: 1, type: 'normal', data }] })
  await store.close()
  t.is((await opened(location)).length, 10)
})

test('SIGKILL in the middle of writing loses nothing that was acknowledged', async (t) => {
  const location = await temporary(t)
  for (let round = 1; round <= 10; round += 1) {
    const child = spawn(process.execPath, [crashWriter, location, 'write', 'file'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = once(child, 'exit')
    let acknowledged = 0
    let seen = 0
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line)
      seen += 1
      if (seen === 40 + round * 17) child.kill('SIGKILL')
    }
    await exited
    const store = storeAt(location, 64 * 1024)
    const found = await store.open()
    t.true(found.lastIndex >= acknowledged, `round ${round}: ${acknowledged} were acknowledged`)
    const entries = await store.read(1, found.lastIndex + 1)
    t.true(entries.every(({ data, index }) => data[0] === index % 256))
    t.is(found.hardState.commit, found.lastIndex)
    await store.close()
  }
})

const FULL_DISK_TITLE = 'a really full disk stops the log with a clear code, and space revives it'

if (spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()]).status === 0) {
  test(FULL_DISK_TITLE, async (t) => {
    const disk = await temporary(t)
    const writer = `"${process.execPath}" "${crashWriter}" "$1/log"`
    const commands = [
      'mount -t tmpfs -o size=1m tmpfs "$1"',
      `${writer} write file`,
      'mount -o remount,size=20m "$1"',
      `${writer} look file`,
    ]
    const shell = ['-m', 'sh', '-ec', commands.join(' && '), 'sh', disk]
    const lines = execFileSync('unshare', shell, { encoding: 'utf8' }).trim().split('\n')
    const refusal = lines.indexOf('STORAGE_FULL')
    t.true(refusal > 10, 'some writes were acknowledged before')
    t.true(Number(lines.at(-1)) >= Number(lines[refusal - 1]), 'and are there afterwards')
  })
} else {
  test.skip(`${FULL_DISK_TITLE} (skipped: no right to mount)`, () => {})
}
