/**
 * The durable log on plain files: segments that are preallocated and written in turn, one record a
 * write. Invariants:
 * - a write (entries, truncation, hard state) is ONE record, hence atomic: it counts when it is
 *   whole; entries in a record replace what earlier records hold from their first index on;
 * - one write is in flight, and it is durable before the next begins;
 * - a segment begins with a record of the log's whole state, so compaction only deletes files;
 * - after a failed write the store refuses everything: never guess (raft.md bugs 13, 29).
 * Why: 3 to 6 times the writes of LevelDB and a thirtieth of its p99 (`reference/raft.md` §5.4).
 * Only one process may have the log open, and only one can: `directory-lock.ts`.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { assert, at } from '../../base/assert.ts'
import { SwarmError, errorText } from '../../base/errors.ts'
import { silentLogger, type Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type { Entry, Index } from '../core/entry.ts'
import { DirectoryLock } from './directory-lock.ts'
import { EMPTY_BASE, EMPTY_HARD_STATE } from './empty-log.ts'
import { readFileLog, spansBefore, type FileSpan } from './file-log-opening.ts'
import * as records from './file-log-records.ts'
import { SegmentDirectory, type Segment } from './file-log-segment.ts'
import { corrupt } from './log-records.ts'
import type { AppendBatch, LogContents, LogStore } from './ports.ts'
import { asStorageError } from './storage-error.ts'
import { WriteMark } from './write-mark.ts'

const SEGMENT_BYTES_DEFAULT = 16 * 1024 * 1024
/** The buffer for records is kept up to this size; a larger one is given back. */
const BUFFER_BYTES_KEPT = 1024 * 1024
/** Part of a segment that is full when the next one is prepared. */
const PREPARE_FROM = 0.5
/** Salts are below this: 32 bits. */
const SALTS = 0x1_0000_0000

/** Where the log lives, and how. */
export interface FileLogStoreOptions {
  /** A directory of the log's own; made when missing. */
  readonly location: string
  /** Gives each segment its salt. */
  readonly random: Random
  /** Size of a segment; a write that is larger gets a larger one. Default 16 MiB. */
  readonly segmentBytes?: number
  readonly log?: Logger
}

/** `LogStore` on a directory of segments. */
export class FileLogStore implements LogStore {
  readonly #options: Required<FileLogStoreOptions>
  readonly #directory: SegmentDirectory
  readonly #mark: WriteMark
  #lock: DirectoryLock | undefined
  #segment: Segment | undefined
  /** Number of the oldest segment. */
  #oldest = 1
  /** Records that hold entries, ascending and contiguous. */
  #spans: FileSpan[] = []
  #state: records.LogState = { hardState: EMPTY_HARD_STATE, base: EMPTY_BASE, lastIndex: 0 }
  #sequence = 0
  #buffer = Buffer.alloc(0)
  /** Set by a failed write; from then on nothing is accepted. */
  #failure: SwarmError | undefined

  constructor(options: FileLogStoreOptions) {
    this.#options = { segmentBytes: SEGMENT_BYTES_DEFAULT, log: silentLogger, ...options }
    this.#directory = new SegmentDirectory(options.location, this.#options.segmentBytes)
    this.#mark = new WriteMark(join(options.location, 'acknowledged'))
  }

  async open(): Promise<LogContents> {
    assert(this.#segment === undefined, 'the log is open already')
    await mkdir(this.#options.location, { recursive: true })
    try {
      this.#lock = await DirectoryLock.take(join(this.#options.location, 'lock'), 'raft log')
      return await this.#adopt(await this.#mark.open())
    } catch (error) {
      await this.close()
      throw asStorageError('raft log', error)
    }
  }

  async #adopt(acknowledged: number): Promise<LogContents> {
    const found = await readFileLog(this.#directory)
    const { hardState, base, lastIndex, sequence, tornEntries, segments, tail } = found
    if (sequence < acknowledged) {
      throw corrupt(`write ${acknowledged} was acknowledged, the newest found is ${sequence}`)
    }
    this.#spans = [...found.spans]
    this.#state = { hardState, base, lastIndex }
    this.#sequence = sequence
    this.#failure = undefined
    this.#oldest = segments[0] ?? 1
    const newest = segments.at(-1)
    if (newest === undefined || tail === undefined) await this.#rotate(1)
    else {
      if (tornEntries > 0) this.#options.log.warn({ lastIndex }, 'cut the torn end of the raft log')
      this.#segment = await this.#directory.resume(newest, { ...tail, cut: tornEntries > 0 })
    }
    return { hardState, base, lastIndex, tornEntries }
  }

  async read(low: Index, high: Index): Promise<readonly Entry[]> {
    this.#usable()
    if (low >= high) return []
    const { base, lastIndex } = this.#state
    assert(low > base.index && high <= lastIndex + 1, `[${low}, ${high}) is no range`)
    const entries: Entry[] = []
    for (const span of this.#spans) {
      if (span.last < low || span.first >= high) continue
      const all = await this.#entriesOf(span)
      const [from, to] = [Math.max(low, span.first), Math.min(high, span.last + 1)]
      for (const entry of all.slice(from - span.first, to - span.first)) entries.push(entry)
    }
    return entries
  }

  async #entriesOf({ segment, salt, offset, sizeBytes, first }: FileSpan): Promise<Entry[]> {
    const bytes = await this.#directory.read(segment, offset, sizeBytes)
    const record = records.readRecord(bytes, 0, salt)
    if (record?.type !== 'append') throw corrupt(`the record at entry ${first} is damaged`)
    return [...record.entries]
  }

  async append({ entries, hardState = this.#state.hardState }: AppendBatch): Promise<void> {
    this.#usable()
    const first = entries[0]?.index
    if (first !== undefined) this.#assertFits(entries, first)
    const sizeBytes = records.appendRecordBytes(entries)
    const segment = await this.#roomFor(sizeBytes)
    const sequence = this.#sequence + 1
    const buffer = this.#bufferOf(sizeBytes)
    const target = { buffer, offset: 0, salt: segment.salt, sequence }
    records.writeAppendRecord(target, { entries, hardState })
    const offset = segment.end
    await this.#write(segment, buffer.subarray(0, sizeBytes), sequence)
    this.#state = { ...this.#state, hardState }
    if (first === undefined) return
    const last = first + entries.length - 1
    this.#spans = spansBefore(this.#spans, first)
    const place = { segment: segment.number, salt: segment.salt, offset, sizeBytes }
    this.#spans.push({ ...place, first, last })
    this.#state = { ...this.#state, lastIndex: last }
  }

  #assertFits(entries: readonly Entry[], first: Index): void {
    const { base, lastIndex } = this.#state
    assert(first > base.index && first <= lastIndex + 1, `entry ${first} leaves a gap`)
    const last = at(entries, entries.length - 1).index
    assert(last === first + entries.length - 1, 'entries of one append are contiguous')
  }

  async compact(base: LogContents['base']): Promise<void> {
    const { hardState, lastIndex } = this.#state
    assert(base.index <= lastIndex, 'compaction beyond the end is a reset')
    if (base.index <= this.#state.base.index) return
    await this.#writeState('compact', { hardState, base, lastIndex })
    this.#spans = this.#spans.filter((span) => span.last > base.index)
    await this.#dropOldSegments()
  }

  async reset(base: LogContents['base'], hardState: LogContents['hardState']): Promise<void> {
    await this.#writeState('reset', { hardState, base, lastIndex: base.index })
    this.#spans = []
    await this.#dropOldSegments()
  }

  async close(): Promise<void> {
    const segment = this.#segment
    this.#segment = undefined
    try {
      await this.#mark.close()
      await this.#directory.close()
    } finally {
      await segment?.close()
      await this.#release()
    }
  }

  /** Last of all: from here on another process may write. */
  async #release(): Promise<void> {
    const lock = this.#lock
    this.#lock = undefined
    await lock?.release()
  }

  async #writeState(type: 'compact' | 'reset', state: records.LogState): Promise<void> {
    this.#usable()
    const sizeBytes = records.encodeStateRecord(type, state, { salt: 0, sequence: 0 }).length
    const { salt } = await this.#roomFor(sizeBytes)
    const sequence = this.#sequence + 1
    const record = records.encodeStateRecord(type, state, { salt, sequence })
    await this.#write(this.#usable(), record, sequence)
    this.#state = state
  }

  /** The segment that the next record of `sizeBytes` goes to. */
  async #roomFor(sizeBytes: number): Promise<Segment> {
    const segment = this.#usable()
    const { segmentBytes } = this.#options
    if (segment.end + sizeBytes > segmentBytes) {
      await this.#guarded(() => this.#rotate(segment.number + 1))
      await segment.close()
    } else if (segment.end > segmentBytes * PREPARE_FROM) this.#directory.prepare()
    return this.#usable()
  }

  /** Begins segment `number` with the present state. */
  async #rotate(number: number): Promise<void> {
    const salt = this.#options.random.integer(SALTS)
    const sequence = this.#sequence + 1
    const head = Buffer.concat([
      records.encodeSegmentHeader({ salt, number }),
      records.encodeStateRecord('rotate', this.#state, { salt, sequence }),
    ])
    this.#segment = await this.#directory.create(number, salt, head)
    this.#sequence = sequence
    this.#mark.note(sequence)
  }

  async #write(segment: Segment, bytes: Buffer, sequence: number): Promise<void> {
    await this.#guarded(async () => {
      if (this.#mark.failure !== undefined) throw this.#mark.failure
      await segment.write(bytes)
    })
    this.#sequence = sequence
    this.#mark.note(sequence)
  }

  async #dropOldSegments(): Promise<void> {
    const newest = this.#usable().number
    const needed = Math.min(this.#spans[0]?.segment ?? newest, newest)
    const dropped = Array.from({ length: needed - this.#oldest }, (_, n) => this.#oldest + n)
    await this.#guarded(() => this.#directory.remove(dropped))
    this.#oldest = needed
  }

  /** Runs what writes; its failure is the end of the store. */
  async #guarded(run: () => Promise<void>): Promise<void> {
    try {
      await run()
    } catch (error) {
      this.#failure = asStorageError('raft log', error)
      this.#options.log.error({ err: errorText(error) }, 'write to the raft log failed')
      throw this.#failure
    }
  }

  #bufferOf(sizeBytes: number): Buffer {
    if (this.#buffer.length >= sizeBytes) return this.#buffer
    const buffer = Buffer.allocUnsafeSlow(Math.max(sizeBytes, 2 * this.#buffer.length))
    if (buffer.length <= BUFFER_BYTES_KEPT) this.#buffer = buffer
    return buffer
  }

  #usable(): Segment {
    if (this.#failure !== undefined) throw this.#failure
    if (this.#segment === undefined) throw new SwarmError('SHUTTING_DOWN', 'raft log: is not open')
    return this.#segment
  }
}
