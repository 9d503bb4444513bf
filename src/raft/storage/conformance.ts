/**
 * What every implementation of the storage ports must do, as ava tests: call with a maker of fresh
 * places. "Reopen" makes a second store on the same place, as a restarted process would.
 */
import type { ExecutionContext, TestFn } from 'ava'
import { AssertionError, at } from '../../base/assert.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { Entry, EntryType, Index, SnapshotMetadata, Term } from '../core/entry.ts'
import { EMPTY_BASE, EMPTY_CONFIGURATION, EMPTY_HARD_STATE } from './empty-log.ts'
import { PARTIAL_SCENARIOS } from './partial-conformance.ts'
import type { LogContents, LogStore, SnapshotStore } from './ports.ts'
import type { StoragePlace } from './storage-place.ts'

/** Every kind of entry comes up. */
const TYPES: readonly EntryType[] = [
  ...Array<EntryType>(4).fill('normal'),
  'confChange',
  'confChangeV2',
  'restore',
]

/** Entries `first` … `first + count - 1` of `term`, each with its own data. */
export function entriesFrom(first: Index, count: number, term: Term): Entry[] {
  return Array.from({ length: count }, (_, offset) => ({
    index: first + offset,
    term,
    type: at(TYPES, offset % TYPES.length),
    data: new TextEncoder().encode(`entry ${first + offset} of term ${term}`),
  }))
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  for await (const chunk of source) text += decoder.decode(chunk, { stream: true })
  return text
}

/** Plain arrays, so that kinds of byte array do not matter. */
function plain(entries: readonly Entry[]): unknown[] {
  return entries.map((entry) => ({ ...entry, data: [...entry.data] }))
}

const base = { index: 7, term: 2, conf: { ...EMPTY_CONFIGURATION, voters: [1, 2 ** 52 + 1] } }
const hardState = { term: 3, vote: 2 ** 52 + 1, commit: 7 }

interface Opened {
  readonly store: LogStore
  readonly found: LogContents
}

/** Opens the place anew; closes `from` first. */
type Reopen = (from?: LogStore) => Promise<Opened>
type LogScenario = readonly [string, (t: ExecutionContext, reopen: Reopen) => Promise<void>]

const LOG_SCENARIOS: readonly LogScenario[] = [
  [
    'a new log is empty',
    async (t, reopen) => {
      const { store, found } = await reopen()
      const empty = { hardState: EMPTY_HARD_STATE, base: EMPTY_BASE, lastIndex: 0, tornEntries: 0 }
      t.deepEqual(found, empty)
      t.deepEqual(await store.read(1, 1), [])
      await store.close()
    },
  ],

  [
    'entries and hard state survive a restart',
    async (t, reopen) => {
      const first = await reopen()
      const entries = entriesFrom(1, 10, 1)
      await first.store.append({ entries: entries.slice(0, 4), hardState })
      await first.store.append({ entries: entries.slice(4) })
      const { store, found } = await reopen(first.store)
      t.is(found.lastIndex, 10)
      t.deepEqual(found.hardState, hardState)
      t.deepEqual(plain(await store.read(1, 11)), plain(entries))
      t.deepEqual(plain(await store.read(3, 7)), plain(entries.slice(2, 6)))
      await store.close()
    },
  ],

  [
    'hard state alone is stored, entries alone keep it',
    async (t, reopen) => {
      const first = await reopen()
      await first.store.append({ entries: entriesFrom(1, 8, 2) })
      await first.store.append({ entries: [], hardState })
      await first.store.append({ entries: entriesFrom(9, 1, 3) })
      const { store, found } = await reopen(first.store)
      t.deepEqual(found.hardState, hardState)
      t.is(found.lastIndex, 9)
      await store.close()
    },
  ],

  [
    'an append replaces everything from its first index on',
    async (t, reopen) => {
      const first = await reopen()
      await first.store.append({ entries: entriesFrom(1, 5, 1) })
      await first.store.append({ entries: entriesFrom(6, 5, 1) })
      await first.store.append({ entries: entriesFrom(11, 5, 1) })
      await first.store.append({ entries: entriesFrom(8, 2, 2) })
      const expected = [...entriesFrom(1, 5, 1), ...entriesFrom(6, 5, 1).slice(0, 2)]
      expected.push(...entriesFrom(8, 2, 2))
      const { store, found } = await reopen(first.store)
      t.is(found.lastIndex, 9)
      t.deepEqual(plain(await store.read(1, 10)), plain(expected))
      await store.append({ entries: entriesFrom(8, 1, 3) })
      await store.append({ entries: entriesFrom(1, 3, 4) })
      const again = await reopen(store)
      t.is(again.found.lastIndex, 3)
      t.deepEqual(plain(await again.store.read(1, 4)), plain(entriesFrom(1, 3, 4)))
      await again.store.close()
    },
  ],

  [
    'compaction drops the beginning, durably',
    async (t, reopen) => {
      const first = await reopen()
      for (let index = 1; index <= 10; index += 5) {
        await first.store.append({ entries: entriesFrom(index, 5, 2), hardState })
      }
      await first.store.compact(base)
      await first.store.compact({ ...base, index: 3 })
      const { store, found } = await reopen(first.store)
      t.deepEqual(found.base, base)
      t.is(found.lastIndex, 10)
      t.deepEqual(plain(await store.read(8, 11)), plain(entriesFrom(6, 5, 2).slice(2)))
      await store.append({ entries: entriesFrom(8, 1, 3) })
      await store.compact({ ...base, index: 8, term: 3 })
      const again = await reopen(store)
      t.is(again.found.lastIndex, 8)
      t.is(again.found.base.index, 8)
      await again.store.append({ entries: entriesFrom(9, 1, 3) })
      await again.store.close()
    },
  ],

  [
    'a reset leaves nothing but the new start',
    async (t, reopen) => {
      const first = await reopen()
      await first.store.append({ entries: entriesFrom(1, 5, 1) })
      await first.store.reset(base, hardState)
      const { store, found } = await reopen(first.store)
      t.deepEqual(found, { hardState, base, lastIndex: 7, tornEntries: 0 })
      await store.append({ entries: entriesFrom(8, 2, 3) })
      t.deepEqual(plain(await store.read(8, 10)), plain(entriesFrom(8, 2, 3)))
      await store.close()
    },
  ],

  [
    'a gap, a range outside and use before opening are mistakes',
    async (t, reopen) => {
      const { store } = await reopen()
      await store.append({ entries: entriesFrom(1, 3, 1) })
      await t.throwsAsync(store.append({ entries: entriesFrom(5, 1, 1) }), {
        instanceOf: AssertionError,
      })
      await t.throwsAsync(store.read(2, 5), { instanceOf: AssertionError })
      await store.close()
      const failure = await t.throwsAsync(store.append({ entries: entriesFrom(4, 1, 1) }))
      t.true(isSwarmError(failure, 'SHUTTING_DOWN'))
    },
  ],

  [
    'any sequence of writes reads back as a plain list would',
    async (t, reopen) => {
      let { store } = await reopen()
      let model: Entry[] = []
      let start = 0
      for (let step = 1; step <= 60; step += 1) {
        const last = start + model.length
        const first = Math.max(start + 1, last + 1 - (step % 4 === 0 ? step % 6 : 0))
        const entries = entriesFrom(first, 1 + (step % 5), step)
        await store.append({ entries, hardState: { term: step, vote: 0, commit: start } })
        model = [...model.slice(0, first - start - 1), ...entries]
        if (step % 9 === 0) {
          const index = start + Math.ceil(model.length / 2)
          const { term } = at(model, index - start - 1)
          await store.compact({ index, term, conf: EMPTY_CONFIGURATION })
          model = model.slice(index - start)
          start = index
          await store.append({ entries: [], hardState: { term: step, vote: 0, commit: start } })
        }
        if (step % 13 === 0) ({ store } = await reopen(store))
        t.deepEqual(plain(await store.read(start + 1, start + model.length + 1)), plain(model))
      }
      await store.close()
    },
  ],
]

/** The suite of `LogStore`. */
export function logStoreConformance(
  test: TestFn,
  name: string,
  makePlace: () => Promise<StoragePlace<LogStore>>,
): void {
  for (const [title, run] of LOG_SCENARIOS) {
    test(`${name}: ${title}`, async (t) => {
      const place = await makePlace()
      t.teardown(() => place.dispose())
      await run(t, async (from) => {
        await from?.close()
        const store = place.store()
        return { store, found: await store.open() }
      })
    })
  }
}

const conf = { ...EMPTY_CONFIGURATION, voters: [1, 2, 2 ** 52 + 1], learners: [4] }
const metadataAt = (index: Index): SnapshotMetadata => ({ index, term: 2, conf })
const membership = new TextEncoder().encode('members')

async function write(store: SnapshotStore, index: Index, parts: string[]): Promise<string> {
  const sink = await store.create(metadataAt(index), membership)
  for (const part of parts) await sink.write(new TextEncoder().encode(part))
  return (await sink.commit()).id
}

type SnapshotPlace = StoragePlace<SnapshotStore>
type SnapshotScenario = readonly [
  string,
  (t: ExecutionContext, place: SnapshotPlace) => Promise<void>,
]

const SNAPSHOT_SCENARIOS: readonly SnapshotScenario[] = [
  [
    'a snapshot is listed when it is whole, and reads back',
    async (t, place) => {
      const first = place.store()
      await first.open()
      t.deepEqual(await first.list(), [])
      const sink = await first.create(metadataAt(5), membership)
      await sink.write(new TextEncoder().encode('hello '))
      t.deepEqual(await first.list(), [])
      await sink.write(new TextEncoder().encode('world'))
      const stored = await sink.commit()
      await first.close()
      const store = place.store()
      await store.open()
      const listed = at(await store.list(), 0)
      t.is(listed.id, stored.id)
      t.deepEqual(listed.metadata, metadataAt(5))
      t.deepEqual([...listed.membership], [...membership])
      t.is(listed.sizeBytes, 11)
      t.is(await collect(store.read(stored.id)), 'hello world')
      t.is(await collect(store.read(stored.id, 6)), 'world')
      t.is(await collect(store.read(stored.id, 11)), '')
      await store.close()
    },
  ],

  [
    'an empty snapshot is a snapshot',
    async (t, place) => {
      const store = place.store()
      await store.open()
      const id = await write(store, 3, [])
      t.is(await collect(store.read(id)), '')
      await store.close()
    },
  ],

  [
    'two generations stay, newest first, whatever the order of making',
    async (t, place) => {
      const store = place.store()
      await store.open()
      for (const index of [5, 9, 7, 12]) await write(store, index, [`at ${index}`])
      const listed = await store.list()
      t.deepEqual(
        listed.map(({ metadata }) => metadata.index),
        [12, 9],
      )
      const failure = await t.throwsAsync(collect(store.read('2-5-1')))
      t.true(isSwarmError(failure, 'NOT_FOUND'))
      await store.close()
    },
  ],

  [
    'a cancelled snapshot leaves nothing',
    async (t, place) => {
      const store = place.store()
      await store.open()
      const sink = await store.create(metadataAt(5), membership)
      await sink.write(new Uint8Array(10))
      await sink.cancel()
      t.deepEqual(await store.list(), [])
      await t.throwsAsync(sink.commit())
      await store.close()
    },
  ],

  [
    'a snapshot that is being read outlives newer ones',
    async (t, place) => {
      const store = place.store()
      await store.open()
      const part = 'x'.repeat(300_000)
      const id = await write(store, 5, [part, part])
      const reading = store.read(id)[Symbol.asyncIterator]()
      let length = (await reading.next()).value?.length ?? 0
      for (const index of [6, 7, 8]) await write(store, index, ['newer'])
      for (let step = await reading.next(); step.done !== true; step = await reading.next()) {
        length += step.value.length
      }
      t.is(length, 600_000)
      t.deepEqual(
        (await store.list()).map(({ metadata }) => metadata.index),
        [8, 7],
      )
      await store.close()
    },
  ],
]

/** The suite of `SnapshotStore`. */
export function snapshotStoreConformance(
  test: TestFn,
  name: string,
  makePlace: () => Promise<SnapshotPlace>,
): void {
  for (const [title, run] of [...SNAPSHOT_SCENARIOS, ...PARTIAL_SCENARIOS]) {
    test(`${name}: ${title}`, async (t) => {
      const place = await makePlace()
      t.teardown(() => place.dispose())
      await run(t, place)
    })
  }
}
