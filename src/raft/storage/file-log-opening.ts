/**
 * Reads the file log once, at start, and decides what it can vouch for. Segments are numbered and
 * so are writes; the first record of a segment repeats the state of the log, so older segments can
 * go. The end is the first place without a whole record:
 * - in the newest segment, with no whole record behind it: what lies there was never acknowledged
 *   (one write is in flight at a time, the next begins when it is durable) and is cut;
 * - anywhere else, or with a whole record behind it: acknowledged entries are lost,
 * STORAGE_CORRUPT;
 * - `WriteMark` tells when the newest write itself was acknowledged and is gone.
 * Source: `reference/raft.md` bugs 28, 29; "Protocol-Aware Recovery" (FAST '18).
 */
import { at } from '../../base/assert.ts'
import type { Entry, Index, Term } from '../core/entry.ts'
import { EMPTY_BASE, EMPTY_HARD_STATE } from './empty-log.ts'
import * as records from './file-log-records.ts'
import type { SegmentDirectory } from './file-log-segment.ts'
import { corrupt } from './log-records.ts'

const ZEROS = Buffer.alloc(64 * 1024)

/** Where the entries [first, last] stand: in one record, which may hold more at its end. */
export interface FileSpan {
  readonly first: Index
  readonly last: Index
  readonly segment: number
  readonly salt: number
  readonly offset: number
  readonly sizeBytes: number
}

/** What the files say. */
export interface FileLogFindings extends records.LogState {
  readonly spans: readonly FileSpan[]
  /** Number of the newest write found. */
  readonly sequence: number
  readonly tornEntries: number
  /** The segments there are, ascending. */
  readonly segments: readonly number[]
  /** Where the newest segment ends; `undefined` when there is none. */
  readonly tail: { readonly salt: number; readonly end: number } | undefined
}

/** Entries that a span holds are of these terms; only kept while the log is read. */
interface FoundSpan extends FileSpan {
  readonly terms: readonly Term[]
}

interface Replay {
  state: records.LogState
  sequence: number
  spans: FoundSpan[]
}

/** @throws STORAGE_CORRUPT */
export async function readFileLog(directory: SegmentDirectory): Promise<FileLogFindings> {
  const numbers = await directory.numbers()
  const replay: Replay = {
    state: { hardState: EMPTY_HARD_STATE, base: EMPTY_BASE, lastIndex: 0 },
    sequence: 0,
    spans: [],
  }
  let tail: FileLogFindings['tail']
  let torn = false
  for (const [position, number] of numbers.entries()) {
    if (number !== at(numbers, 0) + position) throw corrupt(`segment ${number - 1} is missing`)
    const bytes = await directory.contents(number)
    const { salt, end } = replaySegment(replay, bytes, { number, isFirst: position === 0 })
    const isNewest = position === numbers.length - 1
    torn = !isZero(bytes, end)
    if (torn && !isNewest)
      throw corrupt(`segment ${number} has a damaged end and is not the newest`)
    if (torn) checkNothingFollows(bytes, { salt, end })
    tail = { salt, end }
  }
  checkWhole(replay)
  const { sequence, state, spans } = replay
  return {
    ...state,
    spans: spans.map(withoutTerms),
    sequence,
    segments: numbers,
    tail,
    tornEntries: torn ? 1 : 0,
  }
}

function withoutTerms({ terms: _terms, ...span }: FoundSpan): FileSpan {
  return span
}

/** Applies the records of one segment; returns where they end. */
function replaySegment(
  replay: Replay,
  bytes: Buffer,
  { number, isFirst }: { readonly number: number; readonly isFirst: boolean },
): { readonly salt: number; readonly end: number } {
  const header = records.decodeSegmentHeader(bytes)
  if (header.number !== number) throw corrupt(`segment ${number} calls itself ${header.number}`)
  const { salt } = header
  let end = records.SEGMENT_HEADER_BYTES
  let record = records.readRecord(bytes, end, salt)
  if (record?.type !== 'rotate') throw corrupt(`segment ${number} has lost its beginning`)
  if (isFirst) {
    replay.state = record.state
    replay.sequence = record.sequence - 1
  }
  while (record !== undefined) {
    if (record.sequence !== replay.sequence + 1) {
      throw corrupt(`write ${replay.sequence + 1} is missing`)
    }
    replay.sequence = record.sequence
    apply(replay, record, { segment: number, salt, offset: end })
    end += record.sizeBytes
    record = records.readRecord(bytes, end, salt)
  }
  return { salt, end }
}

type Place = Pick<FileSpan, 'segment' | 'salt' | 'offset'>

function apply(replay: Replay, record: records.LogRecord, place: Place): void {
  if (record.type === 'append') {
    replay.state = { ...replay.state, hardState: record.hardState }
    if (record.entries.length > 0) addEntries(replay, record.entries, record.sizeBytes, place)
    return
  }
  if (record.type === 'rotate' && record.state.lastIndex !== replay.state.lastIndex) {
    throw corrupt(`segment ${place.segment} does not go on where the one before ends`)
  }
  if (record.type === 'reset') replay.spans = []
  replay.state = record.state
}

function addEntries(
  replay: Replay,
  entries: readonly Entry[],
  sizeBytes: number,
  place: Place,
): void {
  const first = at(entries, 0).index
  if (first > replay.state.lastIndex + 1) throw corrupt(`entry ${first} leaves a gap`)
  const last = first + entries.length - 1
  const kept = spansBefore(replay.spans, first)
  const terms = entries.map(({ term }) => term)
  replay.spans = kept
  kept.push({ ...place, sizeBytes, first, last, terms })
  replay.state = { ...replay.state, lastIndex: last }
}

/** `spans` without entries from `first` on; the array itself when nothing goes. */
export function spansBefore<T extends FileSpan>(spans: T[], first: Index): T[] {
  const newest = spans.at(-1)
  if (newest === undefined || newest.last < first) return spans
  const kept = spans.filter((span) => span.first < first)
  const cut = kept.at(-1)
  if (cut !== undefined && cut.last >= first) kept[kept.length - 1] = { ...cut, last: first - 1 }
  return kept
}

/** Entries behind the base are all there, and their terms never fall. */
function checkWhole(replay: Replay): void {
  const { base, lastIndex, hardState } = replay.state
  replay.spans = replay.spans.filter((span) => span.last > base.index)
  let next = base.index + 1
  let lastTerm = base.term
  for (const { first, last, terms } of replay.spans) {
    const fits = next === base.index + 1 ? first <= next : first === next
    if (!fits) throw corrupt(`expected entry ${next}, found ${first}`)
    for (; next <= last; next += 1) {
      const term = at(terms, next - first)
      if (term < lastTerm) throw corrupt(`the term falls at entry ${next}`)
      lastTerm = term
    }
  }
  if (next !== lastIndex + 1) throw corrupt(`entries ${next} to ${lastIndex} are missing`)
  if (hardState.commit > lastIndex) throw corrupt('the commit index is beyond the end')
}

/** What lies behind the end may be a write that was never acknowledged, and nothing else. */
function checkNothingFollows(
  bytes: Buffer,
  { salt, end }: { readonly salt: number; readonly end: number },
): void {
  let found = bytes.indexOf(records.RECORD_MAGIC, end)
  for (; found !== -1; found = bytes.indexOf(records.RECORD_MAGIC, found + 1)) {
    if (found % records.ALIGNMENT_BYTES !== 0) continue
    const record = records.readRecord(bytes, found, salt)
    if (record === undefined) continue
    throw corrupt(`write ${record.sequence} is whole behind a damaged one`)
  }
}

function isZero(bytes: Buffer, from: number): boolean {
  for (let start = from; start < bytes.length; start += ZEROS.length) {
    const part = bytes.subarray(start, start + ZEROS.length)
    if (!part.equals(ZEROS.subarray(0, part.length))) return false
  }
  return true
}
