/** DNS messages on a byte stream: two bytes of length before each (RFC 1035 §4.2.2). */

const LENGTH_BYTES = 2

/** A message as it goes over a stream. */
export function frameOf(message: Buffer): Buffer {
  const frame = Buffer.alloc(LENGTH_BYTES + message.length)
  frame.writeUInt16BE(message.length)
  message.copy(frame, LENGTH_BYTES)
  return frame
}

/** A sink for chunks that calls `onMessage` for each whole message; holds at most one. */
export function messagesIn(onMessage: (message: Buffer) => void): (chunk: Buffer) => void {
  let held: Buffer = Buffer.alloc(0)
  return (chunk) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    while (held.length >= LENGTH_BYTES) {
      const end = LENGTH_BYTES + held.readUInt16BE()
      if (held.length < end) return
      const message = held.subarray(LENGTH_BYTES, end)
      held = held.subarray(end)
      onMessage(message)
    }
  }
}
