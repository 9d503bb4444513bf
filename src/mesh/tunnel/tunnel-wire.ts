/**
 * A byte stream of the mesh as the wire under a libp2p connection, in place of a TCP socket. What
 * runs over it is the same Noise handshake and multiplexer as on a socket: the relays see cipher
 * text, and the far end proves its key to this one.
 *
 * Invariant: at most `WIRE_QUEUE_BYTES` and one send of the multiplexer wait here; reading stops
 * while the connection above is paused, and then the stream's own credit stops the far side.
 */
import type { AbortOptions, MessageStreamDirection, Connection } from '@libp2p/interface'
import { peerIdFromString } from '@libp2p/peer-id'
import { AbstractMultiaddrConnection } from '@libp2p/utils'
import { CODE_P2P, CODE_P2P_CIRCUIT, multiaddr } from '@multiformats/multiaddr'
import { SwarmError, errorText } from '../../base/errors.ts'
import { nodeIdOf } from '../../identity/peer-id.ts'
import { SEND_BYTES_MAX } from '../frames.ts'
import type { Duplex } from '../ports.ts'
import { quietLog } from '../quiet-log.ts'

/** Bytes that wait for the stream before the multiplexer is told to stop. */
export const WIRE_QUEUE_BYTES = 128 * 1024

/** Both ends of a wire as this end names them. */
export interface WireEnds {
  /** Who must prove to be at the far end. */
  readonly peerId: string
  /** The node beside this one that carries the bytes. */
  readonly relayPeerId: string
  readonly direction: MessageStreamDirection
}

interface Bytes {
  readonly byteLength: number
  subarray(): Uint8Array
}

/** The wire of one tunnel. */
export class TunnelWire extends AbstractMultiaddrConnection {
  readonly #duplex: Duplex
  readonly #closed = Promise.withResolvers<void>()
  readonly #queue: Uint8Array[] = []
  #queuedBytes = 0
  /** The multiplexer was told to stop and waits for `drain`. */
  #full = false
  #pumping: Promise<void> | undefined
  #resumed: (() => void) | undefined
  #paused = false

  constructor(duplex: Duplex, { peerId, relayPeerId, direction }: WireEnds) {
    const remoteAddr = multiaddr(`/p2p/${relayPeerId}/p2p-circuit/p2p/${peerId}`)
    super({ remoteAddr, direction, log: quietLog })
    this.#duplex = duplex
    this.addEventListener('close', () => this.#closed.resolve())
    // Owned by the wire: it ends with the stream, and its errors end the wire.
    void this.#read()
  }

  /** Resolves when the wire is closed, however. */
  get closed(): Promise<void> {
    return this.#closed.promise
  }

  override sendData(data: Bytes): { sentBytes: number; canSendMore: boolean } {
    const sentBytes = data.byteLength
    this.#queue.push(data.subarray())
    this.#queuedBytes += sentBytes
    this.#pumping ??= this.#pump()
    this.#full = this.#queuedBytes >= WIRE_QUEUE_BYTES
    return { sentBytes, canSendMore: !this.#full }
  }

  override async sendClose(options?: AbortOptions): Promise<void> {
    options?.signal?.throwIfAborted()
    await this.#pumping
    await this.#duplex.end()
  }

  override sendReset(error: Error): void {
    this.#resumed?.()
    this.#duplex.abort(error)
  }

  override sendPause(): void {
    this.#paused = true
  }

  override sendResume(): void {
    this.#paused = false
    this.#resumed?.()
  }

  async #pump(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        const batch = this.#nextBatch()
        await this.#duplex.write(batch)
        this.#queuedBytes -= batch.length
        this.#maybeDrain()
      }
    } catch (error) {
      this.abort(wireError(error))
    } finally {
      this.#pumping = undefined
    }
  }

  #maybeDrain(): void {
    if (!this.#full || this.#queuedBytes >= WIRE_QUEUE_BYTES) return
    this.#full = false
    this.safeDispatchEvent('drain')
  }

  /** Small writes of one turn share a frame. */
  #nextBatch(): Uint8Array {
    const parts: Uint8Array[] = []
    let bytes = 0
    let [head] = this.#queue
    while (head !== undefined && (parts.length === 0 || bytes + head.length <= SEND_BYTES_MAX)) {
      parts.push(head)
      bytes += head.length
      this.#queue.shift()
      head = this.#queue[0]
    }
    const [only] = parts
    return parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, bytes)
  }

  async #read(): Promise<void> {
    try {
      for await (const chunk of this.#duplex.source) {
        while (this.#paused && this.status === 'open') await this.#untilResumed()
        this.onData(chunk)
      }
      this.onRemoteCloseWrite()
      await this.close()
    } catch (error) {
      this.abort(wireError(error))
    }
  }

  #untilResumed(): Promise<void> {
    return new Promise((resolve) => (this.#resumed = resolve))
  }
}

/** The node beside this one that carries `connection`; undefined when it is direct. */
export function relayOf(connection: Pick<Connection, 'remoteAddr'>): string | undefined {
  const parts = connection.remoteAddr.getComponents()
  const circuit = parts.findIndex((part) => part.code === CODE_P2P_CIRCUIT)
  const relay = parts.slice(0, Math.max(0, circuit)).findLast((part) => part.code === CODE_P2P)
  const key = relay?.value === undefined ? undefined : peerIdFromString(relay.value).publicKey
  return key === undefined ? undefined : nodeIdOf(key.raw)
}

function wireError(error: unknown): Error {
  return error instanceof Error ? error : new SwarmError('UNAVAILABLE', errorText(error))
}
