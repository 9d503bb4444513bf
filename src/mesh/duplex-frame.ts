/** What travels on a byte stream: a kind, and a body that depends on it. */
import { SwarmError } from '../base/errors.ts'
import { encodeFrame, SEND_BYTES_MAX } from './frames.ts'

/** First byte of each frame's body. */
export const FRAME_KIND = {
  /** Bytes of the user. */
  data: 0,
  /** No more data from here. */
  end: 1,
  /** The handler failed: msgpack of a wire error. */
  failure: 2,
  /** First from the opener: msgpack of `StreamHeader`. */
  header: 3,
  /** First from the acceptor: a handler has the stream. */
  accepted: 4,
  /** How many bytes of data arrived and were consumed since the last of these. */
  acknowledgement: 5,
} as const

/** Most bytes of data in one frame. */
export const DATA_BYTES_MAX = SEND_BYTES_MAX - 8
/** Largest frame of any kind. */
export const DUPLEX_FRAME_BYTES_MAX = SEND_BYTES_MAX

const ACKNOWLEDGEMENT_BYTES = 8

/** Counts since the acknowledgement before. */
export interface Acknowledgement {
  readonly arrivedBytes: number
  readonly consumedBytes: number
}

/** A frame of `kind`, with its length before it. */
export function encodeDuplexFrame(kind: number, body: Uint8Array): Uint8Array {
  const tagged = new Uint8Array(1 + body.length)
  tagged[0] = kind
  tagged.set(body, 1)
  return encodeFrame(tagged)
}

export function encodeAcknowledgement(counts: Acknowledgement): Uint8Array {
  const body = new Uint8Array(ACKNOWLEDGEMENT_BYTES)
  const view = new DataView(body.buffer)
  view.setUint32(0, counts.arrivedBytes)
  view.setUint32(4, counts.consumedBytes)
  return encodeDuplexFrame(FRAME_KIND.acknowledgement, body)
}

/** @throws INVALID_ARGUMENT */
export function decodeAcknowledgement(body: Uint8Array): Acknowledgement {
  if (body.length !== ACKNOWLEDGEMENT_BYTES) {
    throw new SwarmError('INVALID_ARGUMENT', 'stream: malformed acknowledgement')
  }
  const view = new DataView(body.buffer, body.byteOffset)
  return { arrivedBytes: view.getUint32(0), consumedBytes: view.getUint32(4) }
}
