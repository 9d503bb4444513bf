/**
 * The daemon's log stream: frames of an 8-byte header (stream, three zeros, length) and one record
 * each.
 * Source: Docker Engine API, "Stream format".
 */
import { CommandError } from './command.ts'

const HEADER_BYTES = 8

/** Longest record that is read, in bytes; the daemon's lines are far shorter. */
const RECORD_BYTES_MAX = 16 * 1024 * 1024

/** Number of the stream that tells what went wrong. */
const ERROR_STREAM = 3

/** One record: a line, with what the daemon put before it. */
export interface StreamRecord {
  readonly stream: 'stdout' | 'stderr'
  readonly text: string
}

/**
 * Cuts the stream into records.
 * @yields records in order
 * @throws CommandError with what the daemon says went wrong, after all records before it
 */
export async function* readRecords(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<StreamRecord> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const chunk of chunks) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
    for (let end = frameEnd(rest); end <= rest.length; end = frameEnd(rest)) {
      const text = rest.toString('utf8', HEADER_BYTES, end)
      if (rest[0] === ERROR_STREAM) {
        throw new CommandError(`error from daemon in stream: ${text.trimEnd()}`)
      }
      yield { stream: rest[0] === 2 ? 'stderr' : 'stdout', text }
      rest = rest.subarray(end)
    }
  }
  if (rest.length > 0) throw new CommandError('the log stream ends in the middle of a record')
}

/** Where the first frame ends; beyond the end of `bytes` when it is not whole yet. */
function frameEnd(bytes: Buffer): number {
  if (bytes.length < HEADER_BYTES) return Infinity
  const length = bytes.readUInt32BE(4)
  if (length > RECORD_BYTES_MAX) throw new CommandError(`log record of ${length} bytes refused`)
  return HEADER_BYTES + length
}
