/**
 * What reaches the disk, and how: one synced, atomic write for everything that belongs together
 * (reference/raft.md §1.2, bugs 5 and 29; google/leveldb#193).
 */
import { constants } from 'node:fs'
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { Level } from 'level'
import { seededRandom } from '../../base/random.ts'
import type { Entry } from '../core/entry.ts'
import { FileLogStore } from './file-log-store.ts'
import { LevelLogStore } from './level-log-store.ts'
import { STATE_KEY } from './log-records.ts'

interface Batch {
  readonly keys: readonly string[]
  readonly sync: unknown
}

const hex = (key: unknown): string => Buffer.from(key as Uint8Array).toString('hex')
const entry = (index: number): Entry => ({ index, term: 1, type: 'normal', data: Buffer.from('x') })
const BASE = {
  index: 2,
  term: 1,
  conf: { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
}

async function directory(work: (location: string) => Promise<void>): Promise<void> {
  const location = await mkdtemp(join(tmpdir(), 'raft-synced-'))
  try {
    await work(location)
  } finally {
    await rm(location, { recursive: true })
  }
}

test.serial(
  'LevelDB is asked for one synced batch a write, with term and vote in it',
  async (t) => {
    const batches: Batch[] = []
    const original: unknown = Reflect.get(Level.prototype, 'batch')
    const call = original as (...args: unknown[]) => unknown
    Level.prototype.batch = function spy(this: unknown, ...args: unknown[]): never {
      const [operations, options] = args as [{ key: Uint8Array }[], { sync?: boolean } | undefined]
      batches.push({ keys: operations.map(({ key }) => hex(key)), sync: options?.sync })
      return Reflect.apply(call, this, args) as never
    } as never
    try {
      await directory(async (location) => {
        const store = new LevelLogStore({ location })
        await store.open()
        const hardState = { term: 1, vote: 1, commit: 0 }
        await store.append({ entries: [entry(1), entry(2), entry(3)], hardState })
        // Truncation, entries, vote.
        await store.append({ entries: [entry(2)], hardState: { ...hardState, term: 2, vote: 3 } })
        await store.compact(BASE)
        await store.reset({ ...BASE, index: 9 }, hardState)
        await store.close()
      })
    } finally {
      Level.prototype.batch = original as never
    }
    t.is(batches.length, 4)
    for (const { keys, sync } of batches) {
      t.true(sync === true)
      t.true(keys.includes(hex(STATE_KEY)))
    }
    t.true((batches[1]?.keys.length ?? 0) > 1)
  },
)

test('segments of the file log are open for synchronous writes', async (t) => {
  if (process.platform !== 'linux') {
    t.log('skipped: /proc is needed to see how a file is open')
    t.pass()
    return
  }
  await directory(async (location) => {
    const store = new FileLogStore({ location, random: seededRandom(1) })
    await store.open()
    await store.append({ entries: [entry(1)], hardState: { term: 1, vote: 1, commit: 0 } })
    const flags: number[] = []
    for (const number of await readdir('/proc/self/fd')) {
      const path = await readlink(`/proc/self/fd/${number}`).catch(() => '')
      if (!path.startsWith(location) || !path.endsWith('.segment')) continue
      const info = await readFile(`/proc/self/fdinfo/${number}`, 'utf8')
      flags.push(Number.parseInt(/^flags:\s*(\d+)$/m.exec(info)?.[1] ?? '0', 8))
    }
    await store.close()
    t.true(flags.length > 0)
    for (const each of flags) t.is(each & constants.O_DSYNC, constants.O_DSYNC)
  })
})
