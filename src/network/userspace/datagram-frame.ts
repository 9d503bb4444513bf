/** Datagrams on a byte stream: two bytes of length, big-endian, then the datagram. */

const LENGTH_BYTES = 2

/** Most bytes of one datagram: what the length can say, and more than UDP can carry. */
const DATAGRAM_BYTES_MAX = 0xffff

/** `datagram` with its length in front. */
export function frameOf(datagram: Uint8Array): Uint8Array {
  const length = Math.min(datagram.length, DATAGRAM_BYTES_MAX)
  const frame = new Uint8Array(LENGTH_BYTES + length)
  frame[0] = length >> 8
  frame[1] = length & 0xff
  frame.set(datagram.subarray(0, length), LENGTH_BYTES)
  return frame
}

/**
 * The datagrams in a stream of frames; the rest of a frame that was cut off is dropped.
 * @yields one datagram, in a view of a larger buffer
 */
export async function* unframed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let buffer = Buffer.alloc(0)
  for await (const chunk of source) {
    buffer = Buffer.concat([buffer, chunk])
    while (buffer.length >= LENGTH_BYTES) {
      const end = LENGTH_BYTES + buffer.readUInt16BE(0)
      if (buffer.length < end) break
      yield buffer.subarray(LENGTH_BYTES, end)
      buffer = buffer.subarray(end)
    }
  }
}
