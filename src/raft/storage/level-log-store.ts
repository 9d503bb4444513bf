/**
 * The durable log on `level` (LevelDB through classic-level). Invariants:
 * - a write (entries, truncation, hard state, last index) is ONE atomic batch, and every batch is
 *   synced: mixing synced and unsynced writes loses data at a log switch (leveldb 193);
 * - one value holds all entries of one append (§5.4: a third faster than a value each);
 * - the state record names the last index, so a missing tail is noticed; `WriteMark` notices when
 *   LevelDB lost whole acknowledged writes;
 * - after a failed write the store refuses everything: never guess (raft.md bugs 13, 29).
 * Source: `reference/raft.md` §5.4, §6.3; record bytes in `log-records.ts`.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Level } from 'level'
import { assert, at, defined } from '../../base/assert.ts'
import { SwarmError, errorText } from '../../base/errors.ts'
import { silentLogger, type Logger } from '../../base/log.ts'
import type { Entry, HardState, Index } from '../core/entry.ts'
import { claimDirectory } from './directory-lock.ts'
import { EMPTY_BASE, EMPTY_HARD_STATE } from './empty-log.ts'
import { readLogRecords, type BatchSpan } from './log-opening.ts'
import * as records from './log-records.ts'
import type { AppendBatch, LogContents, LogStore } from './ports.ts'
import { asStorageError } from './storage-error.ts'
import { WriteMark } from './write-mark.ts'

/** LevelDB's memtable; two may be alive. Small: boards have little memory. */
const WRITE_BUFFER_BYTES = 4 * 1024 * 1024
/** The log is read once, at start: caching blocks is of no use. */
const CACHE_BYTES = 512 * 1024

type Database = Level<Uint8Array, Uint8Array>
type Operation =
  | { readonly type: 'put'; readonly key: Uint8Array; readonly value: Uint8Array }
  | { readonly type: 'del'; readonly key: Uint8Array }

/** Where the log lives. */
export interface LevelLogStoreOptions {
  /** A directory of the log's own; made when missing. */
  readonly location: string
  readonly log?: Logger
}

/** `LogStore` on a LevelDB directory. */
export class LevelLogStore implements LogStore {
  readonly #location: string
  readonly #log: Logger
  readonly #mark: WriteMark
  #database: Database | undefined
  #unclaim: (() => void) | undefined
  /** Batches on disk in ascending order; contiguous. */
  #spans: BatchSpan[] = []
  #base: LogContents['base'] = EMPTY_BASE
  #hardState: HardState = EMPTY_HARD_STATE
  #lastIndex: Index = 0
  #sequence = 0
  /** Set by a failed write; from then on nothing is accepted. */
  #failure: SwarmError | undefined

  constructor({ location, log = silentLogger }: LevelLogStoreOptions) {
    this.#location = location
    this.#log = log
    this.#mark = new WriteMark(join(location, 'acknowledged'))
  }

  async open(): Promise<LogContents> {
    assert(this.#database === undefined, 'the log is open already')
    await mkdir(this.#location, { recursive: true })
    this.#unclaim = claimDirectory(this.#location, 'raft log')
    const database = newDatabase(join(this.#location, 'level'))
    try {
      await database.open()
      this.#database = database
      const acknowledged = await this.#mark.open()
      return await this.#adopt(database, acknowledged)
    } catch (error) {
      await this.close()
      throw asStorageError('raft log', error)
    }
  }

  async #adopt(database: Database, acknowledged: number): Promise<LogContents> {
    const found = await readLogRecords(database)
    if (found.sequence < acknowledged) {
      throw records.corrupt(
        `write ${acknowledged} was acknowledged, but the newest one found is ${found.sequence}`,
      )
    }
    this.#spans = [...found.spans]
    this.#base = found.base
    this.#hardState = found.hardState
    this.#lastIndex = found.lastIndex
    this.#sequence = found.sequence
    this.#failure = undefined
    const { hardState, base, lastIndex, tornEntries } = found
    if (found.tornKeys.length > 0) {
      this.#log.warn({ tornEntries, lastIndex }, 'cut the torn end of the raft log')
      await this.#write(found.tornKeys.map((key) => ({ type: 'del', key })))
    }
    return { hardState, base, lastIndex, tornEntries }
  }

  async read(low: Index, high: Index): Promise<readonly Entry[]> {
    const database = this.#usable()
    if (low >= high) return []
    assert(low > this.#base.index && high <= this.#lastIndex + 1, `[${low}, ${high}) is no range`)
    const spans = this.#spans.filter((span) => span.last >= low && span.first < high)
    const values = await database.getMany(spans.map((span) => records.batchKey(span.first)))
    const entries = values.flatMap((value, position) => {
      const batch = decodeIfPresent(value)
      if (batch !== undefined) return batch
      throw records.corrupt(`the batch at ${at(spans, position).first} is damaged`)
    })
    const first = defined(entries[0], 'first entry').index
    return entries.slice(low - first, high - first)
  }

  async append(batch: AppendBatch): Promise<void> {
    const operations: Operation[] = []
    let spans = this.#spans
    let lastIndex = this.#lastIndex
    const first = batch.entries[0]?.index
    if (first !== undefined) {
      assert(first > this.#base.index && first <= lastIndex + 1, `entry ${first} leaves a gap`)
      assertContiguous(batch.entries)
      const kept = await this.#keepBefore(first, operations)
      lastIndex = first + batch.entries.length - 1
      spans = [...kept, { first, last: lastIndex }]
      operations.push(put(records.batchKey(first), records.encodeBatch(batch.entries)))
    }
    await this.#commit(operations, { hardState: batch.hardState ?? this.#hardState, lastIndex })
    this.#spans = spans
  }

  /** Spans that stay when the log is truncated to before `first`, with the operations for it. */
  async #keepBefore(first: Index, operations: Operation[]): Promise<readonly BatchSpan[]> {
    const last = this.#spans.at(-1)
    if (last === undefined || last.last < first) return this.#spans
    const kept = this.#spans.filter((span) => span.last < first)
    for (const span of this.#spans.slice(kept.length)) {
      if (span.first < first) {
        const head = await this.#headOf(span, first)
        operations.push(put(records.batchKey(span.first), records.encodeBatch(head)))
        kept.push({ first: span.first, last: first - 1 })
      } else if (span.first !== first) {
        operations.push({ type: 'del', key: records.batchKey(span.first) })
      }
    }
    return kept
  }

  async #headOf(span: BatchSpan, end: Index): Promise<readonly Entry[]> {
    const value = await this.#usable().get(records.batchKey(span.first))
    const batch = decodeIfPresent(value)
    if (batch === undefined) throw records.corrupt(`the batch at ${span.first} is damaged`)
    return batch.slice(0, end - span.first)
  }

  async compact(base: LogContents['base']): Promise<void> {
    assert(base.index <= this.#lastIndex, 'compaction beyond the end is a reset')
    if (base.index <= this.#base.index) return
    const kept = this.#spans.filter((span) => span.last > base.index)
    const dropped = this.#spans.slice(0, this.#spans.length - kept.length)
    const operations = dropped.map(deletion)
    operations.push(put(records.BASE_KEY, records.encodeBase(base)))
    await this.#commit(operations, { hardState: this.#hardState, lastIndex: this.#lastIndex })
    this.#spans = kept
    this.#base = base
  }

  async reset(base: LogContents['base'], hardState: HardState): Promise<void> {
    const operations = this.#spans.map(deletion)
    operations.push(put(records.BASE_KEY, records.encodeBase(base)))
    await this.#commit(operations, { hardState, lastIndex: base.index })
    this.#spans = []
    this.#base = base
  }

  async close(): Promise<void> {
    const database = this.#database
    this.#database = undefined
    try {
      await this.#mark.close()
    } finally {
      await database?.close()
      this.#unclaim?.()
      this.#unclaim = undefined
    }
  }

  /** Writes `operations` and the new state record; the store's view follows when it is durable. */
  async #commit(
    operations: readonly Operation[],
    state: { readonly hardState: HardState; readonly lastIndex: Index },
  ): Promise<void> {
    const sequence = this.#sequence + 1
    await this.#write([
      ...operations,
      put(records.STATE_KEY, records.encodeState({ ...state, sequence })),
    ])
    this.#sequence = sequence
    this.#hardState = state.hardState
    this.#lastIndex = state.lastIndex
    this.#mark.note(sequence)
  }

  async #write(operations: readonly Operation[]): Promise<void> {
    const database = this.#usable()
    try {
      if (this.#mark.failure !== undefined) throw this.#mark.failure
      await database.batch([...operations], { sync: true })
    } catch (error) {
      this.#failure = asStorageError('raft log', error)
      this.#log.error({ err: errorText(error) }, 'write to the raft log failed')
      throw this.#failure
    }
  }

  #usable(): Database {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#database === undefined) {
      throw new SwarmError('SHUTTING_DOWN', 'raft log: is not open')
    }
    return this.#database
  }
}

function newDatabase(location: string): Database {
  return new Level<Uint8Array, Uint8Array>(location, {
    keyEncoding: 'view',
    valueEncoding: 'view',
    compression: false,
    writeBufferSize: WRITE_BUFFER_BYTES,
    cacheSize: CACHE_BYTES,
  })
}

function decodeIfPresent(value: Uint8Array | undefined): readonly Entry[] | undefined {
  return value === undefined ? undefined : records.decodeBatch(value)
}

function put(key: Uint8Array, value: Uint8Array): Operation {
  return { type: 'put', key, value }
}

function deletion(span: BatchSpan): Operation {
  return { type: 'del', key: records.batchKey(span.first) }
}

function assertContiguous(entries: readonly Entry[]): void {
  const first = at(entries, 0).index
  const contiguous = entries.every((entry, position) => entry.index === first + position)
  assert(contiguous, 'entries of one append are contiguous')
}
