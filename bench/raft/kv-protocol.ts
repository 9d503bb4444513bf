/**
 * How the benchmark's client talks to the benchmark's server: frames of a length (u32), a request
 * number (u32), a byte (operation or outcome) and content. A put's content is the command itself:
 * length of the key (u16), key, value.
 */

export const OPERATION = { put: 1, get: 2, status: 3, transfer: 4 } as const
export const OUTCOME = { ok: 0, notLeader: 1, failed: 2 } as const

const HEAD_BYTES = 9
const KEY_LENGTH_BYTES = 2

/** One frame. */
export function frame(id: number, code: number, content: Uint8Array = new Uint8Array()): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + content.length)
  bytes.writeUInt32BE(HEAD_BYTES - 4 + content.length)
  bytes.writeUInt32BE(id, 4)
  bytes[8] = code
  bytes.set(content, HEAD_BYTES)
  return bytes
}

/** The command that sets `key`. */
export function putCommand(key: Uint8Array, value: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(KEY_LENGTH_BYTES + key.length + value.length)
  bytes.writeUInt16BE(key.length)
  bytes.set(key, KEY_LENGTH_BYTES)
  bytes.set(value, KEY_LENGTH_BYTES + key.length)
  return bytes
}

/** Key and value of a command, one character a byte. */
export function parsePut(command: Uint8Array): readonly [string, string] {
  const bytes = Buffer.from(command.buffer, command.byteOffset, command.length)
  const end = KEY_LENGTH_BYTES + bytes.readUInt16BE(0)
  return [bytes.toString('latin1', KEY_LENGTH_BYTES, end), bytes.toString('latin1', end)]
}

/** Calls `onFrame` for each whole frame of a stream; content is a view. */
export function frameParser(
  onFrame: (id: number, code: number, content: Buffer) => void,
): (chunk: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  return (chunk) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    let offset = 0
    while (bytes.length - offset >= HEAD_BYTES) {
      const end = offset + 4 + bytes.readUInt32BE(offset)
      if (end > bytes.length) break
      const content = bytes.subarray(offset + HEAD_BYTES, end)
      onFrame(bytes.readUInt32BE(offset + 4), bytes[offset + 8] ?? 0, content)
      offset = end
    }
    rest = bytes.subarray(offset)
  }
}
