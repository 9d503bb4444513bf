/**
 * Yamux tells the sender of a stream after every chunk how much more it may send. Each of these
 * twelve bytes is encrypted, written and read on its own: half of all frames under small requests.
 * Here they wait for the next frame that goes the same way, those of one stream added up.
 *
 * Invariant: what is held is less than a quarter of a stream's window, so every sender always has
 * three quarters of its window or what it has not used of it; nothing needs a timer.
 * Source: yamux `spec.md` (window update), `reference/raft.md` §5.5.
 */

/** Frame of Yamux: version 0, type, flags (2), stream (4), length (4). */
const FRAME_HEAD_BYTES = 12
const WINDOW_UPDATE = 1
const FLAGS_AT = 2
const STREAM_AT = 4
const LENGTH_AT = 8

/** Bytes as libp2p passes them; a list has `subarray` to become one piece. */
export interface Bytes {
  readonly byteLength: number
  subarray(): Uint8Array
}

/** Holds window updates back until something else is sent. */
export class HeldCredit {
  readonly #limitBytes: number
  readonly #send: (bytes: Uint8Array) => boolean
  /** Credit by stream; their sum is below the limit. */
  readonly #credit = new Map<number, number>()
  #heldBytes = 0

  constructor(windowBytes: number, send: (bytes: Uint8Array) => boolean) {
    this.#limitBytes = windowBytes / 4
    this.#send = send
  }

  /** Sends what Yamux gave at once, or keeps it. `undefined` = kept. */
  send(data: Uint8Array | Bytes): boolean | undefined {
    const bytes = data instanceof Uint8Array ? data : data.subarray()
    if (!isPlainUpdate(bytes)) {
      return this.#send(this.#credit.size === 0 ? bytes : Buffer.concat([...this.#take(), bytes]))
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, FRAME_HEAD_BYTES)
    const stream = view.getUint32(STREAM_AT)
    const length = view.getUint32(LENGTH_AT)
    this.#credit.set(stream, (this.#credit.get(stream) ?? 0) + length)
    this.#heldBytes += length
    return this.#heldBytes < this.#limitBytes ? undefined : this.#send(Buffer.concat(this.#take()))
  }

  #take(): Uint8Array[] {
    const frames = Array.from(this.#credit, ([stream, length]) => updateFrame(stream, length))
    this.#credit.clear()
    this.#heldBytes = 0
    return frames
  }
}

/** A window update that does nothing else: opening and closing of streams are flags of it. */
function isPlainUpdate(bytes: Uint8Array): boolean {
  const [version, type] = bytes
  if (bytes.length !== FRAME_HEAD_BYTES || version !== 0 || type !== WINDOW_UPDATE) return false
  return bytes[FLAGS_AT] === 0 && bytes[FLAGS_AT + 1] === 0
}

function updateFrame(stream: number, length: number): Uint8Array {
  const frame = new Uint8Array(FRAME_HEAD_BYTES)
  const view = new DataView(frame.buffer)
  frame[1] = WINDOW_UPDATE
  view.setUint32(STREAM_AT, stream)
  view.setUint32(LENGTH_AT, length)
  return frame
}
