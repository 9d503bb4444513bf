/**
 * The part of a libp2p stream that the mesh uses, and how to wait for it. Left out on purpose:
 * `onDrain()` works only once, and `for await` over a stream has no limit (`reference/libp2p.md`
 * §3.2 A and C); the `drain` event and bounded readers take their place.
 */
import type { Stream } from '@libp2p/interface'

/** What is used of a libp2p stream. */
export type MuxedStream = Pick<
  Stream,
  | 'status'
  | 'readStatus'
  | 'writeStatus'
  | 'writableNeedsDrain'
  | 'writeBufferLength'
  | 'send'
  | 'close'
  | 'abort'
  | 'pause'
  | 'resume'
  | 'addEventListener'
  | 'removeEventListener'
>

/** Bytes as they come: whole, or a list of parts that `subarray` joins. */
export type StreamBytes = Uint8Array | { subarray(): Uint8Array }

/** Whether another `send` would only grow the stream's own buffer. */
export function isClogged(stream: MuxedStream): boolean {
  return stream.writableNeedsDrain || stream.writeBufferLength > 0
}

/** Resolves when the stream takes bytes again, or is closed. Never rejects. */
export async function writable(stream: MuxedStream): Promise<void> {
  while (stream.writeStatus === 'writable' && isClogged(stream)) {
    await nextEvent(stream)
  }
}

function nextEvent(stream: MuxedStream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.removeEventListener('drain', done)
      stream.removeEventListener('idle', done)
      stream.removeEventListener('close', done)
      resolve()
    }
    stream.addEventListener('drain', done)
    stream.addEventListener('idle', done)
    stream.addEventListener('close', done)
  })
}
