import test from 'ava'
import { SwarmError } from '../../base/errors.ts'
import type { Entry, HardState, Index, Term } from '../core/entry.ts'
import { APPEND_THREAD, type Message, type StorageAppend } from '../core/message.ts'
import { entriesFrom } from '../storage/conformance.ts'
import { EMPTY_CONFIGURATION } from '../storage/empty-log.ts'
import { MemoryLogStore } from '../storage/memory-log-store.ts'
import type { AppendBatch } from '../storage/ports.ts'
import { AppendWriter } from './append-writer.ts'
import { LogCache } from './log-cache.ts'
import {
  COMMIT_WRITE_DELAY_MS,
  MESSAGE_BYTES_MAX,
  WRITE_BYTES_MAX,
  resolveRaftOptions,
} from './options.ts'
import { SimulatedClock } from './simulated-clock.ts'
import { Ticker } from './ticker.ts'

/** A log whose writes wait until `release` is called. */
class GatedLogStore extends MemoryLogStore {
  readonly batches: AppendBatch[] = []
  #gate = Promise.withResolvers<void>()

  override async append(batch: AppendBatch): Promise<void> {
    this.batches.push(batch)
    await this.#gate.promise
    await super.append(batch)
  }

  release(): void {
    this.#gate.resolve()
    this.#gate = Promise.withResolvers<void>()
  }

  releaseAll(): void {
    this.#gate.resolve()
  }
}

const hardState: HardState = { term: 1, vote: 1, commit: 0 }

function write(entries: readonly Entry[], hard?: HardState): StorageAppend {
  const last = entries.at(-1)
  const answer: Message = {
    type: 'storageAppendResp',
    from: APPEND_THREAD,
    to: 1,
    term: 1,
    logTerm: last?.term ?? 0,
    index: last?.index ?? 0,
  }
  const envelope = { from: 1, to: APPEND_THREAD, term: 1, logTerm: 0, index: 0 }
  const message = { type: 'storageAppend' as const, ...envelope, entries, responses: [answer] }
  return hard === undefined ? message : { ...message, hardState: hard }
}

interface Bench {
  readonly store: GatedLogStore
  readonly cache: LogCache
  readonly clock: SimulatedClock
  readonly writer: AppendWriter
  readonly answered: Index[]
  readonly failures: unknown[]
}

async function bench(): Promise<Bench> {
  const store = new GatedLogStore()
  await store.open()
  const clock = new SimulatedClock()
  const base = { index: 0, term: 0 }
  const conf = EMPTY_CONFIGURATION
  const cache = new LogCache({ hardState, conf, base, entries: [] }, () => undefined)
  const answered: Index[] = []
  const failures: unknown[] = []
  const writer = new AppendWriter(
    { logStore: store, cache, clock, writeBytes: WRITE_BYTES_MAX },
    hardState,
    {
      onDurable: (responses) => {
        for (const each of responses)
          if (each.type === 'storageAppendResp') answered.push(each.index)
      },
      install: async () => {},
      onIdle: () => {},
      onFailure: (error) => failures.push(error),
    },
  )
  return { store, cache, clock, writer, answered, failures }
}

const termsOf = (entries: readonly Entry[] | undefined): Term[] =>
  (entries ?? []).map(({ term }) => term)

test('one write is in flight, and what gathers meanwhile is the next one', async (t) => {
  const { store, cache, clock, writer, answered } = await bench()
  for (let index = 1; index <= 5; index += 1) writer.enqueue(write(entriesFrom(index, 1, 1)))
  await clock.advance(0)
  t.is(store.batches.length, 1)
  t.deepEqual(answered, [], 'nothing is answered before it is durable')
  t.is(cache.lastIndex(), 0, 'the core does not see what is not durable')
  store.release()
  await clock.advance(0)
  t.deepEqual(answered, [1])
  t.is(store.batches.length, 2)
  t.is(store.batches[1]?.entries.length, 4)
  store.release()
  await clock.advance(0)
  t.deepEqual(answered, [1, 2, 3, 4, 5])
  t.is(cache.lastIndex(), 5)
})

test('a later write replaces the gathered entries from its first index on', async (t) => {
  const { store, cache, clock, writer } = await bench()
  writer.enqueue(write(entriesFrom(1, 1, 1)))
  writer.enqueue(write(entriesFrom(2, 5, 1)))
  writer.enqueue(write(entriesFrom(4, 2, 2)))
  writer.enqueue(write(entriesFrom(5, 1, 3)))
  await clock.advance(0)
  store.releaseAll()
  await clock.advance(0)
  t.deepEqual(termsOf(store.batches[1]?.entries), [1, 1, 2, 3])
  t.is(cache.lastIndex(), 5)
  t.is(cache.term(5), 3)
})

test('a commit index alone waits for the next write or for a rest', async (t) => {
  const { store, clock, writer, answered } = await bench()
  store.releaseAll()
  writer.enqueue(write([], { ...hardState, commit: 7 }))
  await clock.advance(0)
  t.deepEqual(answered, [0])
  t.is(store.batches.length, 0)
  await clock.advance(COMMIT_WRITE_DELAY_MS)
  t.deepEqual(store.batches[0]?.hardState, { ...hardState, commit: 7 })
  await clock.advance(10 * COMMIT_WRITE_DELAY_MS)
  t.is(store.batches.length, 1)
})

test('a vote is written before its answer leaves', async (t) => {
  const { store, clock, writer, answered } = await bench()
  writer.enqueue(write([], { term: 2, vote: 3, commit: 0 }))
  await clock.advance(0)
  t.deepEqual(answered, [])
  store.releaseAll()
  await clock.advance(0)
  t.deepEqual(answered, [0])
  t.is(store.batches.length, 1)
})

test('a vote without a new term is written before its answer leaves, too (bug 5)', async (t) => {
  const { store, clock, writer, answered } = await bench()
  writer.enqueue(write([], { ...hardState, vote: 3 }))
  await clock.advance(0)
  t.deepEqual(answered, [])
  store.releaseAll()
  await clock.advance(0)
  t.deepEqual(answered, [0])
  t.is(store.batches[0]?.hardState?.vote, 3)
})

test('after a failed write nothing is answered and nothing is written any more', async (t) => {
  const { store, clock, writer, answered, failures } = await bench()
  store.failWith(new SwarmError('STORAGE_FULL', 'disk: full'))
  store.releaseAll()
  writer.enqueue(write(entriesFrom(1, 1, 1)))
  writer.enqueue(write(entriesFrom(2, 1, 1)))
  await clock.advance(0)
  writer.enqueue(write(entriesFrom(3, 1, 1)))
  await clock.advance(10 * COMMIT_WRITE_DELAY_MS)
  t.is(failures.length, 1)
  t.deepEqual(answered, [])
  t.is(store.batches.length, 1)
})

test('stopping writes what is queued, and the commit index', async (t) => {
  const { store, writer } = await bench()
  store.releaseAll()
  writer.enqueue(write(entriesFrom(1, 2, 1)))
  writer.enqueue(write([], { ...hardState, commit: 2 }))
  await writer.stop()
  const hard = store.batches.at(-1)?.hardState
  t.is(hard?.commit, 2)
})

test('the cache answers with bounds, sizes and terms like the log that it mirrors', (t) => {
  const entries = entriesFrom(5, 10, 2)
  const base = { index: 4, term: 1 }
  const start = { hardState, conf: EMPTY_CONFIGURATION, base, entries }
  const cache = new LogCache(start, () => undefined)
  t.is(cache.firstIndex(), 5)
  t.is(cache.lastIndex(), 14)
  t.is(cache.term(3), 'compacted')
  t.is(cache.term(4), 1)
  t.is(cache.term(14), 2)
  t.is(cache.term(15), 'unavailable')
  t.is(cache.entries(4, 6, 1000), 'compacted')
  t.is(cache.entries(14, 16, 1000), 'unavailable')
  t.is(cache.entries(5, 15, 0).length, 1, 'one entry always')
  t.is(cache.entries(5, 15, 45).length, 2)
  t.is(cache.snapshot(), 'unavailable')
  const size = cache.sizeBytes
  cache.append(entriesFrom(12, 1, 3))
  t.is(cache.lastIndex(), 12)
  t.true(cache.sizeBytes < size)
  cache.compact(10)
  t.is(cache.firstIndex(), 11)
  t.is(cache.indexBeforeBytes(0), 12)
  t.is(cache.indexBeforeBytes(1_000_000), 10)
  cache.reset({ index: 20, term: 4 })
  t.is(cache.lastIndex(), 20)
  t.is(cache.term(20), 4)
  t.is(cache.sizeBytes, 0)
})

test('however late the clock is, it is one tick', async (t) => {
  const clock = new SimulatedClock()
  let ticks = 0
  const ticker = new Ticker(clock, 100, () => {
    ticks += 1
  })
  ticker.start()
  await clock.advance(1000)
  t.is(ticks, 10)
  clock.stall(5000)
  await clock.advance(99)
  t.is(ticks, 11)
  await clock.advance(1)
  t.is(ticks, 12)
  ticker.stop()
  t.is(clock.pendingTimers, 0)
})

test('limits of bytes can be smaller than those of every day, not larger', (t) => {
  const place = { id: 'a', address: 'at-a' }
  t.is(resolveRaftOptions(place).writeBytes, WRITE_BYTES_MAX)
  t.is(resolveRaftOptions({ ...place, messageBytes: 1 }).messageBytes, 1)
  for (const over of [
    { messageBytes: MESSAGE_BYTES_MAX + 1 },
    { writeBytes: WRITE_BYTES_MAX + 1 },
  ]) {
    t.throws(() => resolveRaftOptions({ ...place, ...over }), { code: 'INVALID_ARGUMENT' })
  }
})
