/**
 * One socket as frames in both directions. What one turn of the event loop sends leaves in one
 * system call. Both sides say something at every tick of their owner; who says nothing for
 * `SILENT_TICKS_MAX` of this side's ticks is gone (a stall of this process counts as one tick).
 */
import type { Socket } from 'node:net'
import { SwarmError, errorText } from '../../base/errors.ts'
import { COMMAND_BYTES_MAX, INFLIGHT_BYTES_MAX, MESSAGE_BYTES_MAX } from '../runtime/options.ts'
import { FRAME, FrameReader, frameHead, type FrameKind } from './tcp-frames.ts'

/** Time between two ticks, milliseconds. */
export const TICK_MS = 500
/** Ticks of silence after which the other side is taken for dead. */
const SILENT_TICKS_MAX = 6
/** A batch of entries or one command, and what is around it. */
export const FRAME_BYTES_MAX = COMMAND_BYTES_MAX + MESSAGE_BYTES_MAX + 64 * 1024
/** Bytes that wait for a slow peer; more are dropped: Raft repeats what is not acknowledged. */
export const QUEUE_BYTES_MAX = INFLIGHT_BYTES_MAX + FRAME_BYTES_MAX

/** Why a connection ended: the other side ended it, or fell silent. */
export type CloseReason = 'closed' | 'timeout'

/** What the owner of a connection is told. */
export interface ConnectionEvents {
  /** A SwarmError thrown here ends the connection. */
  onFrame(kind: FrameKind, body: Uint8Array): void
  /** Once; nothing follows. */
  onClose(reason: CloseReason, cause: string): void
}

const EMPTY = new Uint8Array()

/** Frames over one socket. */
export class Connection {
  readonly #socket: Socket
  readonly #events: ConnectionEvents
  #closed = false
  #corked = false
  #silentTicks = 0
  #paused = false
  /** Frames since the last tick. */
  #sends = 0

  constructor(socket: Socket, events: ConnectionEvents) {
    this.#socket = socket
    this.#events = events
    const reader = new FrameReader(FRAME_BYTES_MAX, (kind, body) => {
      if (kind !== FRAME.ping && !this.#closed) events.onFrame(kind, body)
    })
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => this.#onData(reader, chunk))
    socket.on('error', (error) => this.#onClose(closeReason(error), errorText(error)))
    socket.on('end', () => this.close('closed', 'ended by the other side'))
    socket.on('close', () => this.#onClose('closed', 'closed'))
  }

  /** Bytes that wait in this process. */
  get queuedBytes(): number {
    return this.#socket.writableLength
  }

  /** Queues a frame; false when it is dropped: the queue is full, or the connection closed. */
  send(kind: FrameKind, body: Uint8Array, queueBytesMax = QUEUE_BYTES_MAX): boolean {
    if (this.#closed || this.#socket.writableLength + body.length > queueBytesMax) return false
    if (!this.#corked) {
      this.#corked = true
      this.#socket.cork()
      process.nextTick(() => {
        this.#corked = false
        this.#socket.uncork()
      })
    }
    this.#socket.write(frameHead(kind, body.length))
    if (body.length > 0) this.#socket.write(body)
    this.#sends += 1
    return true
  }

  /** Resolves when the queue is short again. @throws UNAVAILABLE when the connection closes */
  async drained(): Promise<void> {
    while (!this.#closed && this.#socket.writableNeedDrain) {
      await new Promise<void>((resolve) => {
        const go = (): void => {
          this.#socket.off('drain', go)
          this.#socket.off('close', go)
          resolve()
        }
        this.#socket.once('drain', go)
        this.#socket.once('close', go)
      })
    }
    if (this.#closed) throw new SwarmError('UNAVAILABLE', 'raft connection: closed')
  }

  /** Stops or goes on reading. */
  pause(paused: boolean): void {
    if (paused === this.#paused) return
    this.#paused = paused
    this.#silentTicks = 0
    if (paused) this.#socket.pause()
    else this.#socket.resume()
  }

  /** Says "alive" if nothing else was said, and notices silence. */
  tick(): void {
    if (this.#closed) return
    if (!this.#paused) this.#silentTicks += 1
    if (this.#silentTicks > SILENT_TICKS_MAX) {
      this.close('timeout', 'silent')
      return
    }
    if (this.#sends === 0) this.send(FRAME.ping, EMPTY)
    this.#sends = 0
  }

  /** Drops the connection at once. */
  close(reason: CloseReason, cause: string): void {
    if (this.#closed) return
    this.#socket.destroy()
    this.#onClose(reason, cause)
  }

  /** Lets what is queued leave, then closes. */
  end(): void {
    if (!this.#closed) this.#socket.destroySoon()
  }

  #onData(reader: FrameReader, chunk: Buffer): void {
    if (this.#closed) return
    this.#silentTicks = 0
    try {
      reader.push(chunk)
    } catch (error) {
      if (!(error instanceof SwarmError)) throw error
      this.close('closed', errorText(error))
    }
  }

  #onClose(reason: CloseReason, cause: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#events.onClose(reason, cause)
  }
}

/** The kernel's own give-up is silence; everything else is an end that somebody made. */
const SILENCE_CODES: ReadonlySet<unknown> = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'])

function closeReason(error: Error): CloseReason {
  return 'code' in error && SILENCE_CODES.has(error.code) ? 'timeout' : 'closed'
}
