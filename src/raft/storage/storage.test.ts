import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, readFile, readdir, rm, writeFile, cp } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Level } from 'level'
import { isSwarmError } from '../../base/errors.ts'
import { entriesFrom, logStoreConformance, snapshotStoreConformance } from './conformance.ts'
import { FileSnapshotStore } from './file-snapshot-store.ts'
import { LevelLogStore } from './level-log-store.ts'
import { STATE_KEY, batchKey, encodeBatch, encodeState } from './log-records.ts'
import { MemoryLogStore } from './memory-log-store.ts'
import { MemorySnapshotStore } from './memory-snapshot-store.ts'
import { encodeHeader } from './snapshot-file.ts'
import { digestOf } from './snapshot-generations.ts'
import { asStorageError } from './storage-error.ts'

const crashWriter = new URL('crash-writer.ts', import.meta.url).pathname

const newDirectory = (): Promise<string> => mkdtemp(join(tmpdir(), 'skein-raft-storage-'))

async function temporary(t: ExecutionContext): Promise<string> {
  const directory = await newDirectory()
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

logStoreConformance(test, 'memory', async () => {
  const store = new MemoryLogStore()
  return { store: () => store, dispose: async () => {} }
})
logStoreConformance(test, 'level', async () => {
  const location = await newDirectory()
  return {
    store: () => new LevelLogStore({ location }),
    dispose: () => rm(location, { recursive: true }),
  }
})
snapshotStoreConformance(test, 'memory', async () => {
  const store = new MemorySnapshotStore()
  return { store: () => store, dispose: async () => {} }
})
snapshotStoreConformance(test, 'file', async () => {
  const directory = await newDirectory()
  return {
    store: () => new FileSnapshotStore({ directory }),
    dispose: () => rm(directory, { recursive: true }),
  }
})

async function openingCode(location: string): Promise<string> {
  const store = new LevelLogStore({ location })
  try {
    await store.open()
    await store.close()
    return 'ok'
  } catch (error) {
    return isSwarmError(error) ? error.code : String(error)
  }
}

/** A log of three batches, 1–3, 4–6 and 7–9, with commit 6; then `change` on the raw database. */
async function tampered(
  t: ExecutionContext,
  change: (database: Level<Uint8Array, Uint8Array>) => Promise<unknown>,
): Promise<string> {
  const location = await temporary(t)
  const store = new LevelLogStore({ location })
  await store.open()
  for (const first of [1, 4, 7]) {
    const hardState = { term: 1, vote: 1, commit: first - 1 }
    await store.append({ entries: entriesFrom(first, 3, 1), hardState })
  }
  await store.close()
  const database = new Level<Uint8Array, Uint8Array>(join(location, 'level'), {
    keyEncoding: 'view',
    valueEncoding: 'view',
  })
  await database.open()
  await change(database)
  await database.close()
  return location
}

const flipped = (bytes: Uint8Array): Uint8Array => {
  const copy = bytes.slice()
  const last = copy.length - 1
  copy[last] = (copy[last] ?? 0) ^ 1
  return copy
}

test('an untouched log opens', async (t) => {
  t.is(await openingCode(await tampered(t, async () => {})), 'ok')
})

test('a damaged batch is corruption, wherever it is: it was acknowledged', async (t) => {
  for (const first of [1, 4, 7]) {
    const location = await tampered(t, async (database) => {
      const value = await database.get(batchKey(first))
      await database.put(batchKey(first), flipped(value))
    })
    t.is(await openingCode(location), 'STORAGE_CORRUPT')
  }
})

test('a gap and a missing tail are corruption', async (t) => {
  for (const first of [1, 4, 7]) {
    const location = await tampered(t, (database) => database.del(batchKey(first)))
    t.is(await openingCode(location), 'STORAGE_CORRUPT')
  }
})

test('a damaged or missing state record is corruption: the vote is unknown', async (t) => {
  const missing = await tampered(t, (database) => database.del(STATE_KEY))
  t.is(await openingCode(missing), 'STORAGE_CORRUPT')
  const damaged = await tampered(t, async (database) => {
    const value = await database.get(STATE_KEY)
    await database.put(STATE_KEY, flipped(value))
  })
  t.is(await openingCode(damaged), 'STORAGE_CORRUPT')
})

test('a batch under the wrong key, an overlap and a falling term are corruption', async (t) => {
  const misplaced = await tampered(t, (database) => {
    return database.put(batchKey(4), encodeBatch(entriesFrom(5, 2, 1)))
  })
  t.is(await openingCode(misplaced), 'STORAGE_CORRUPT')
  const overlapping = await tampered(t, (database) => {
    return database.put(batchKey(4), encodeBatch(entriesFrom(4, 4, 1)))
  })
  t.is(await openingCode(overlapping), 'STORAGE_CORRUPT')
  const falling = await tampered(t, (database) => {
    return database.put(batchKey(4), encodeBatch(entriesFrom(4, 3, 0)))
  })
  t.is(await openingCode(falling), 'STORAGE_CORRUPT')
})

test('entries beyond the last index were never acknowledged: cut and reported', async (t) => {
  const location = await tampered(t, async (database) => {
    await database.put(batchKey(10), encodeBatch(entriesFrom(10, 4, 1)))
    await database.put(batchKey(14), flipped(encodeBatch(entriesFrom(14, 1, 1))))
  })
  const store = new LevelLogStore({ location })
  const found = await store.open()
  t.is(found.tornEntries, 5)
  t.is(found.lastIndex, 9)
  await store.append({ entries: entriesFrom(10, 1, 2) })
  await store.close()
  const again = new LevelLogStore({ location })
  t.like(await again.open(), { tornEntries: 0, lastIndex: 10 })
  await again.close()
})

test('an older state of the database betrays that acknowledged writes are lost', async (t) => {
  const location = await temporary(t)
  const older = join(location, 'older')
  const level = join(location, 'level')
  const store = new LevelLogStore({ location })
  await store.open()
  await store.append({ entries: entriesFrom(1, 3, 1) })
  await store.close()
  await cp(level, older, { recursive: true })
  const again = new LevelLogStore({ location })
  await again.open()
  await again.append({ entries: [], hardState: { term: 2, vote: 1, commit: 0 } })
  await again.close()
  await rm(level, { recursive: true })
  await cp(older, level, { recursive: true })
  t.is(await openingCode(location), 'STORAGE_CORRUPT')
})

test("a cut in LevelDB's own log loses acknowledged writes and is noticed", async (t) => {
  const location = await temporary(t)
  const store = new LevelLogStore({ location })
  await store.open()
  for (let index = 1; index <= 20; index += 1) {
    await store.append({ entries: entriesFrom(index, 1, 1) })
  }
  await store.close()
  const level = join(location, 'level')
  const name = (await readdir(level)).find((each) => each.endsWith('.log')) ?? 'none'
  const file = await open(join(level, name), 'r+')
  const { size } = await file.stat()
  await file.truncate(size - 40)
  await file.close()
  t.is(await openingCode(location), 'STORAGE_CORRUPT')
})

test("damage in the middle of LevelDB's own log is noticed", async (t) => {
  const location = await temporary(t)
  const store = new LevelLogStore({ location })
  await store.open()
  for (let index = 1; index <= 100; index += 1) {
    const data = new Uint8Array(2000).fill(index)
    await store.append({ entries: [{ index, term: 1, type: 'normal', data }] })
  }
  await store.close()
  const level = join(location, 'level')
  const name = (await readdir(level)).find((each) => each.endsWith('.log')) ?? 'none'
  const file = await open(join(level, name), 'r+')
  await file.write(new Uint8Array(100).fill(0xee), 0, 100, 70_000)
  await file.close()
  t.is(await openingCode(location), 'STORAGE_CORRUPT')
})

test('a log that another process holds is not opened', async (t) => {
  const location = await temporary(t)
  const store = new LevelLogStore({ location })
  await store.open()
  t.is(await openingCode(location), 'FAILED_PRECONDITION')
  await store.close()
})

test('a state record of another layout is refused', async (t) => {
  const record = encodeState({
    hardState: { term: 1, vote: 1, commit: 0 },
    lastIndex: 9,
    sequence: 3,
  })
  const location = await tampered(t, (database) => database.put(STATE_KEY, flipped(record)))
  t.is(await openingCode(location), 'STORAGE_CORRUPT')
})

test('a full disk is told apart from other failures', (t) => {
  const text = 'IO error: /data/000005.log: No space left on device'
  const level = Object.assign(new Error(text), { code: 'LEVEL_IO_ERROR' })
  t.is(asStorageError('raft log', level).code, 'STORAGE_FULL')
  const file = Object.assign(new Error('ENOSPC: no space left on device, write'), {
    code: 'ENOSPC',
  })
  t.is(asStorageError('snapshot', file).code, 'STORAGE_FULL')
  t.is(asStorageError('snapshot', new Error('other')).code, 'INTERNAL')
})

test('damaged and unfinished snapshot files are not listed, the older generation is', async (t) => {
  const directory = await temporary(t)
  const first = new FileSnapshotStore({ directory })
  await first.open()
  const conf = { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false }
  for (const index of [5, 8]) {
    const sink = await first.create({ index, term: 1, conf }, new Uint8Array())
    await sink.write(new Uint8Array(1000))
    await sink.commit()
  }
  const newest = (await readdir(directory)).find((name) => name.startsWith('1-8-')) ?? 'none'
  const file = await open(join(directory, newest), 'r+')
  await file.truncate(500)
  await file.close()
  await writeFile(join(directory, '1-9-9.snap.tmp'), 'half')
  const store = new FileSnapshotStore({ directory })
  await store.open()
  t.deepEqual(
    (await store.list()).map(({ metadata }) => metadata.index),
    [5],
  )
  t.false((await readdir(directory)).some((name) => name.endsWith('.tmp')))
})

test('a flipped bit in a snapshot is noticed before its last bytes are given', async (t) => {
  const directory = await temporary(t)
  const store = new FileSnapshotStore({ directory })
  await store.open()
  const conf = { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false }
  const sink = await store.create({ index: 5, term: 1, conf }, new Uint8Array())
  await sink.write(new Uint8Array(1000))
  const { id } = await sink.commit()
  const file = await open(join(directory, `${id}.snap`), 'r+')
  await file.write(Uint8Array.of(1), 0, 1, 500)
  await file.close()
  const failure = await t.throwsAsync(async () => {
    for await (const chunk of store.read(id)) t.is(chunk.length, 0)
  })
  t.true(isSwarmError(failure, 'STORAGE_CORRUPT'))
})

test('of a damaged or torn partial snapshot, what is proven is kept', async (t) => {
  const conf = { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false }
  const chunks = [1, 2, 3, 4].map((fill) => new Uint8Array(1000).fill(fill))
  const [metadata, membership] = [{ index: 5, term: 1, conf }, new Uint8Array(3)]
  const identity = { metadata, membership, sizeBytes: 4000, digest: digestOf(chunks) }
  const headerBytes = encodeHeader(metadata, membership).length
  const damages: readonly (readonly [string, number, (file: FileHandle) => Promise<unknown>])[] = [
    ['.part', 2, (file) => file.write(Uint8Array.of(9), 0, 1, headerBytes + 2500)],
    ['.part', 2, (file) => file.truncate(headerBytes + 2999)],
    ['.part', 0, (file) => file.write(Uint8Array.of(9), 0, 1, headerBytes - 1)],
    ['.part', 3, (file) => file.write(new Uint8Array(500), 0, 500, headerBytes + 3000)],
    ['.marks', 1, (file) => file.truncate(15)],
    ['.marks', 1, (file) => file.write(new Uint8Array(8), 0, 8, 8)],
    ['.marks', 3, (file) => file.write(new Uint8Array(8).fill(255), 0, 8, 24)],
  ]
  for (const [suffix, proven, damage] of damages) {
    const directory = await temporary(t)
    const first = new FileSnapshotStore({ directory })
    await first.open()
    const sink = await first.resume(identity)
    for (const chunk of chunks.slice(0, 3)) await sink.write(chunk)
    await sink.suspend()
    const name = (await readdir(directory)).find((each) => each.endsWith(suffix)) ?? 'none'
    const file = await open(join(directory, name), 'r+')
    await damage(file)
    await file.close()
    const store = new FileSnapshotStore({ directory })
    await store.open()
    const again = await store.resume(identity)
    t.is(again.offset, proven * 1000, `${suffix} ${proven}`)
    for (const chunk of chunks.slice(proven)) await again.write(chunk)
    const { id } = await again.commit()
    t.deepEqual(await readdir(directory), [`${id}.snap`])
  }
})

test('a snapshot file of the first layout, without a digest, is still read', async (t) => {
  const directory = await temporary(t)
  const first = new FileSnapshotStore({ directory })
  await first.open()
  const conf = { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false }
  const sink = await first.create({ index: 5, term: 1, conf }, new Uint8Array())
  await sink.write(new Uint8Array(1000).fill(7))
  const made = await sink.commit()
  const path = join(directory, `${made.id}.snap`)
  const bytes = await readFile(path)
  const tail = bytes.subarray(-20)
  const old = Buffer.concat([bytes.subarray(0, -52), tail])
  for (const at of [7, old.length - 1]) old[at] = '1'.charCodeAt(0)
  await writeFile(path, old)
  const store = new FileSnapshotStore({ directory })
  await store.open()
  t.deepEqual(await store.list(), [made])
})

test('SIGKILL in the middle of writing loses nothing that was acknowledged', async (t) => {
  const location = await temporary(t)
  const rounds = 10
  for (let round = 1; round <= rounds; round += 1) {
    const acknowledged = await writeUntilKilled(location, 40 + round * 7)
    const store = new LevelLogStore({ location })
    const found = await store.open()
    t.true(found.lastIndex >= acknowledged, `round ${round}: ${acknowledged} were acknowledged`)
    const entries = await store.read(1, found.lastIndex + 1)
    t.true(entries.every(({ data, index }) => data[0] === index % 256))
    t.is(found.hardState.commit, found.lastIndex)
    await store.close()
  }
})

/**
 * Runs a process that appends and prints each acknowledged index; kills it after `count` of them.
 */
async function writeUntilKilled(location: string, count: number): Promise<number> {
  const child = spawn(process.execPath, [crashWriter, location], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const exited = once(child, 'exit')
  let last = 0
  let seen = 0
  for await (const line of createInterface({ input: child.stdout })) {
    last = Number(line)
    seen += 1
    if (seen === count) child.kill('SIGKILL')
  }
  await exited
  return last
}

const FULL_DISK_TITLE = 'a really full disk stops the log with a clear code, and space revives it'

if (canMount()) {
  test(FULL_DISK_TITLE, async (t) => {
    const disk = await temporary(t)
    const writer = `"${process.execPath}" "${crashWriter}" "$1/log"`
    const commands = [
      'mount -t tmpfs -o size=2m tmpfs "$1"',
      writer,
      'mount -o remount,size=20m "$1"',
      `${writer} look`,
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

/** Whether this process may mount a small disk in a namespace of its own. */
function canMount(): boolean {
  const tried = spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'tmpfs', tmpdir()])
  return tried.status === 0
}
