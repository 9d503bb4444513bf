/** A snapshot to send in tests of transports, and what a receiver of it does at least. */
import type { SnapshotTransfer } from '../runtime/ports.ts'
import { decodeChunks, encodeChunks } from '../runtime/snapshot-chunks.ts'
import { digestOf, skipBytes } from '../storage/snapshot-generations.ts'

const CONFIGURATION = {
  voters: [1, 2],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
}

/** Snapshot 7 of term 3 from member 1 to member 2, announced as `sizeBytes` long. */
export function sampleTransfer(
  chunks: readonly Uint8Array[],
  sizeBytes = chunks.reduce((sum, { length }) => sum + length, 0),
): SnapshotTransfer {
  const metadata = { index: 7, term: 3, conf: CONFIGURATION }
  return {
    message: { type: 'snap', from: 1, to: 2, term: 3, snapshot: { metadata } },
    metadata,
    membership: Buffer.from('members'),
    sizeBytes,
    digest: digestOf(chunks),
    read: (offset) => encodeChunks(skipBytes(chunks, offset), offset),
  }
}

/**
 * The content of a transfer that arrives, from `offset` on.
 * @yields it, chunk by chunk
 */
export async function* contentOf(
  transfer: SnapshotTransfer,
  offset = 0,
): AsyncGenerator<Uint8Array> {
  yield* decodeChunks(transfer.read(offset), { offset, end: transfer.sizeBytes })
}
