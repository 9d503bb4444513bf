/** What every `SnapshotStore` must do with partial snapshots and pins, as ava tests. */
import type { ExecutionContext } from 'ava'
import { at } from '../../base/assert.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { Index } from '../core/entry.ts'
import { EMPTY_CONFIGURATION } from './empty-log.ts'
import type { PartialSink, SnapshotIdentity, SnapshotStore } from './ports.ts'
import { digestOf } from './snapshot-generations.ts'
import type { StoragePlace } from './storage-place.ts'

type Scenario = readonly [
  string,
  (t: ExecutionContext, place: StoragePlace<SnapshotStore>) => Promise<void>,
]

const CHUNK_BYTES = 1000
const CHUNKS = 5

function chunkOf(seed: number, position: number): Uint8Array {
  return new Uint8Array(CHUNK_BYTES).fill(seed + position)
}

function contentOf(seed: number): readonly Uint8Array[] {
  return Array.from({ length: CHUNKS }, (_, position) => chunkOf(seed, position))
}

function identityOf(index: Index, seed: number, members = 'members'): SnapshotIdentity {
  return {
    metadata: { index, term: 2, conf: { ...EMPTY_CONFIGURATION, voters: [1, 2] } },
    membership: new TextEncoder().encode(members),
    sizeBytes: CHUNKS * CHUNK_BYTES,
    digest: digestOf(contentOf(seed)),
  }
}

async function opened(place: StoragePlace<SnapshotStore>): Promise<SnapshotStore> {
  const store = place.store()
  await store.open()
  return store
}

/** Writes chunks up to `end`. */
async function fill(sink: PartialSink, seed: number, end = CHUNKS): Promise<void> {
  for (let position = sink.offset / CHUNK_BYTES; position < end; position += 1) {
    await sink.write(chunkOf(seed, position))
  }
}

async function begun(store: SnapshotStore, identity: SnapshotIdentity, seed: number) {
  const sink = await store.resume(identity)
  await fill(sink, seed, 3)
  await sink.suspend()
}

async function make(store: SnapshotStore, index: Index): Promise<string> {
  const sink = await store.create(identityOf(index, 0).metadata, new Uint8Array())
  await sink.write(chunkOf(0, index))
  return (await sink.commit()).id
}

async function contentIn(store: SnapshotStore, id: string, offset = 0): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of store.read(id, offset)) parts.push(part)
  return Buffer.concat(parts)
}

/** See `snapshotStoreConformance`. */
export const PARTIAL_SCENARIOS: readonly Scenario[] = [
  [
    'a partial snapshot goes on where it was left, and is then one like any other',
    async (t, place) => {
      const identity = identityOf(5, 10)
      const first = await opened(place)
      await begun(first, identity, 10)
      t.deepEqual(await first.list(), [])
      const sink = await first.resume(identity)
      t.is(sink.offset, 3 * CHUNK_BYTES)
      await fill(sink, 10)
      const stored = await sink.commit()
      t.is((await first.resume(identityOf(9, 10))).offset, 0, 'nothing is left of it')
      await first.close()
      const store = await opened(place)
      const listed = at(await store.list(), 0)
      t.is(listed.id, stored.id)
      t.deepEqual(listed.metadata, identity.metadata)
      t.is(listed.digest, identity.digest)
      const whole = Buffer.concat(contentOf(10))
      t.true((await contentIn(store, listed.id)).equals(whole))
      t.true((await contentIn(store, listed.id, 1234)).equals(whole.subarray(1234)))
      await store.close()
    },
  ],

  [
    'a partial snapshot outlives its process',
    async (t, place) => {
      const identity = identityOf(5, 10)
      const first = await opened(place)
      const left = await first.resume(identity)
      await fill(left, 10, 2)
      const store = await opened(place)
      const sink = await store.resume(identity)
      t.is(sink.offset, 2 * CHUNK_BYTES)
      await fill(sink, 10)
      await sink.commit()
      t.is((await store.list()).length, 1)
      await left.suspend()
      await store.close()
    },
  ],

  [
    'a partial of another position, content, size or membership is dropped',
    async (t, place) => {
      const store = await opened(place)
      const known = identityOf(5, 10)
      for (const other of [
        identityOf(6, 10),
        identityOf(5, 11),
        identityOf(5, 10, 'others'),
        { ...known, metadata: { ...known.metadata, term: 3 } },
      ]) {
        await begun(store, known, 10)
        const sink = await store.resume(other)
        t.is(sink.offset, 0)
        await sink.suspend()
        const again = await store.resume(known)
        t.is(again.offset, 0, 'there is only one')
        await again.suspend()
      }
      await store.close()
    },
  ],

  [
    'what is not what was announced is refused and dropped',
    async (t, place) => {
      const store = await opened(place)
      const identity = identityOf(5, 10)
      const sink = await store.resume(identity)
      await fill(sink, 11)
      t.true(isSwarmError(await t.throwsAsync(sink.commit()), 'UNAVAILABLE'))
      await sink.suspend()
      t.deepEqual(await store.list(), [])
      const short = await store.resume(identity)
      t.is(short.offset, 0)
      await fill(short, 10, 4)
      t.true(isSwarmError(await t.throwsAsync(short.commit()), 'UNAVAILABLE'))
      await short.suspend()
      t.deepEqual(await store.list(), [])
      await store.close()
    },
  ],

  [
    'there is one writer of a partial snapshot, and none after it was left',
    async (t, place) => {
      const store = await opened(place)
      const sink = await store.resume(identityOf(5, 10))
      const failure = await t.throwsAsync(store.resume(identityOf(6, 10)))
      t.true(isSwarmError(failure, 'FAILED_PRECONDITION'))
      await sink.suspend()
      t.true(isSwarmError(await t.throwsAsync(sink.write(chunkOf(1, 1))), 'ABORTED'))
      t.true(isSwarmError(await t.throwsAsync(sink.commit()), 'ABORTED'))
      await store.close()
    },
  ],

  [
    'a partial snapshot goes when the store has one that is not older',
    async (t, place) => {
      const store = await opened(place)
      await begun(store, identityOf(5, 10), 10)
      await make(store, 4)
      const sink = await store.resume(identityOf(5, 10))
      t.is(sink.offset, 3 * CHUNK_BYTES)
      await sink.suspend()
      await make(store, 5)
      t.is((await store.resume(identityOf(5, 10))).offset, 0)
      await store.close()
    },
  ],

  [
    'a pinned snapshot outlives newer ones until the last pin is released',
    async (t, place) => {
      const store = await opened(place)
      const id = await make(store, 5)
      const pins = [store.pin(id), store.pin(id)] as const
      for (const index of [6, 7, 8]) await make(store, index)
      const indices = async () => (await store.list()).map(({ metadata }) => metadata.index)
      t.deepEqual(await indices(), [8, 7, 5])
      await pins[0].release()
      await pins[0].release()
      t.is((await contentIn(store, id)).length, CHUNK_BYTES)
      t.deepEqual(await indices(), [8, 7, 5])
      await pins[1].release()
      t.deepEqual(await indices(), [8, 7])
      t.true(
        isSwarmError(
          t.throws(() => store.pin(id)),
          'NOT_FOUND',
        ),
      )
      await store.close()
    },
  ],
]
