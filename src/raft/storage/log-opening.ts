/**
 * Reads the whole log once, at start, and decides what it can vouch for:
 * - every batch passes its CRC-32, the sequence from base to last index has no gap and no overlap,
 *   terms never fall;
 * - what lies beyond the last index of the state record was never acknowledged: it is cut;
 * - anything missing or damaged up to that index may have been acknowledged: STORAGE_CORRUPT.
 * Source: `reference/raft.md` bugs 28, 29; "Protocol-Aware Recovery" (FAST '18) on telling the two
 * apart.
 */
import type { Level } from 'level'
import type { Entry, Index } from '../core/entry.ts'
import { EMPTY_BASE, EMPTY_HARD_STATE } from './empty-log.ts'
import * as records from './log-records.ts'
import type { LogContents } from './ports.ts'

/** The entries [first, last] that one batch record holds. */
export interface BatchSpan {
  readonly first: Index
  readonly last: Index
}

/** What the records say. */
export interface LogFindings extends LogContents {
  readonly spans: readonly BatchSpan[]
  /** Number of the newest write found. */
  readonly sequence: number
  /** Keys of unacknowledged batches that must go. */
  readonly tornKeys: readonly Uint8Array[]
}

interface Scan {
  readonly spans: BatchSpan[]
  readonly tornKeys: Uint8Array[]
  tornEntries: number
  lastTerm: number
}

/** @throws STORAGE_CORRUPT */
export async function readLogRecords(
  database: Level<Uint8Array, Uint8Array>,
): Promise<LogFindings> {
  const { state, base } = await readHead(database)
  const scan: Scan = { spans: [], tornKeys: [], tornEntries: 0, lastTerm: base.term }
  const { lastIndex, sequence, hardState } = state
  for await (const [key, value] of database.iterator({ gte: records.batchKey(0) })) {
    const first = records.firstIndexOf(key)
    if (first === undefined) throw records.corrupt('a record has an unknown key')
    addBatch(scan, { first, value, base: base.index, lastIndex })
  }
  if (sequence === 0 && scan.tornKeys.length > 0) {
    throw records.corrupt('the state record is missing')
  }
  const end = scan.spans.at(-1)?.last ?? base.index
  if (end !== lastIndex) throw records.corrupt(`entries ${end + 1} to ${lastIndex} are missing`)
  if (hardState.commit > lastIndex) throw records.corrupt('the commit index is beyond the end')
  const { spans, tornKeys, tornEntries } = scan
  return { hardState, base, lastIndex, spans, sequence, tornKeys, tornEntries }
}

/** The state and base records; those of a new log when there are none. */
async function readHead(
  database: Level<Uint8Array, Uint8Array>,
): Promise<{ readonly state: records.StateRecord; readonly base: LogContents['base'] }> {
  const keys = [records.STATE_KEY, records.BASE_KEY]
  const [stateBytes, baseBytes]: (Uint8Array | undefined)[] = await database.getMany(keys)
  const base = baseBytes === undefined ? EMPTY_BASE : records.decodeBase(baseBytes)
  if (stateBytes !== undefined) return { state: records.decodeState(stateBytes), base }
  if (baseBytes !== undefined) throw records.corrupt('the state record is missing')
  return { state: { hardState: EMPTY_HARD_STATE, lastIndex: 0, sequence: 0 }, base }
}

interface FoundBatch {
  readonly first: Index
  readonly value: Uint8Array
  readonly base: Index
  readonly lastIndex: Index
}

function addBatch(scan: Scan, { first, value, base, lastIndex }: FoundBatch): void {
  const entries = records.decodeBatch(value)
  if (first > lastIndex) {
    scan.tornKeys.push(records.batchKey(first))
    scan.tornEntries += entries?.length ?? 1
    return
  }
  if (entries === undefined) throw records.corrupt(`the batch at ${first} fails its checksum`)
  const expected = (scan.spans.at(-1)?.last ?? base) + 1
  const fits = scan.spans.length === 0 ? first <= expected : first === expected
  if (!fits) throw records.corrupt(`expected entry ${expected}, found ${first}`)
  const last = first + entries.length - 1
  if (entries.length === 0 || entries[0]?.index !== first || last > lastIndex || last <= base) {
    throw records.corrupt(`the batch at ${first} does not hold what its key says`)
  }
  checkTerms(scan, entries, base)
  scan.spans.push({ first, last })
}

function checkTerms(scan: Scan, entries: readonly Entry[], base: Index): void {
  for (const { index, term } of entries) {
    if (index <= base) continue
    if (term < scan.lastTerm) throw records.corrupt(`the term falls at entry ${index}`)
    scan.lastTerm = term
  }
}
