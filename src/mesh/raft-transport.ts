/**
 * Raft's transport over the mesh. Messages go on the raft stream, which carries nothing else; a
 * snapshot goes on a stream of its own, so that no heartbeat waits behind it. Server ids are node
 * ids.
 *
 * What one turn has for one peer is packed into frames of at most 64 KiB; heartbeats that wait for
 * a clogged stream are replaced by newer ones. A dropped frame is what Raft expects of a network:
 * it repeats what is not acknowledged.
 */
import { assert } from '../base/assert.ts'
import { errorText, SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Message } from '../raft/core/message.ts'
import {
  decodeMessages,
  decodeTransferHeader,
  encodeMessages,
  encodeTransferHeader,
} from '../raft/runtime/codec.ts'
import type { SnapshotTransfer, Transport, TransportHandler } from '../raft/runtime/ports.ts'
import type { RaftLane } from './mesh.ts'
import type { Duplex, Mesh } from './ports.ts'
import { RAFT_FRAME_BYTES_MAX } from './session.ts'

/** Name of the stream that carries a snapshot. */
export const SNAPSHOT_STREAM = 'raft.snapshot'
/** Entries of several messages share a frame up to this size. */
export const RAFT_BATCH_BYTES_MAX = 64 * 1024
/**
 * Time in which a peer must begin to take a snapshot; how long the whole takes is the caller's
 * signal.
 */
export const SNAPSHOT_OPEN_TIMEOUT_MS = 5_000

/** The receiver's first bytes on a snapshot's stream: an offset, big-endian. */
const OFFSET_BYTES = 8

/** What is counted for a message besides its entries, generously. */
const MESSAGE_OVERHEAD_BYTES = 128
const ENTRY_OVERHEAD_BYTES = 24

/** What the transport is built from. */
export interface RaftTransportComponents {
  readonly mesh: Pick<Mesh, 'openStream' | 'handleStream'> & { readonly raft: RaftLane }
  readonly log: Logger
}

/** Moves Raft's messages between the members of the mesh. */
export class RaftTransport implements Transport {
  readonly #mesh: RaftTransportComponents['mesh']
  readonly #log: Logger
  #handler: TransportHandler | undefined
  #status: 'new' | 'started' | 'closed' = 'new'

  constructor(components: RaftTransportComponents) {
    this.#mesh = components.mesh
    this.#log = components.log.child({ component: 'raft-transport' })
  }

  start(handler: TransportHandler): void {
    assert(this.#status === 'new', 'a raft transport starts once')
    this.#status = 'started'
    this.#handler = handler
    this.#mesh.raft.setReceiver({
      onFrame: (from, body) => this.#onFrame(from, body),
      onLost: (peer, reason) => handler.onUnreachable(peer, reason),
    })
    this.#mesh.handleStream(SNAPSHOT_STREAM, (header, stream) => this.#onSnapshot(header, stream))
  }

  send(to: string, messages: readonly Message[]): void {
    if (this.#status !== 'started') return
    let batch: Message[] = []
    let batchBytes = 0
    for (const message of messages) {
      const bytes = sizeOf(message)
      if (isHeartbeat(message)) {
        this.#mesh.raft.sendLatest(to, message.type, encodeMessages([message]))
        continue
      }
      if (batch.length > 0 && batchBytes + bytes > RAFT_BATCH_BYTES_MAX) {
        this.#sendBatch(to, batch)
        batch = []
        batchBytes = 0
      }
      batch.push(message)
      batchBytes += bytes
    }
    if (batch.length > 0) this.#sendBatch(to, batch)
  }

  async sendSnapshot(
    to: string,
    transfer: SnapshotTransfer,
    options: { readonly signal: AbortSignal },
  ): Promise<void> {
    const header = encodeTransferHeader(transfer)
    const stream = await this.#mesh.openStream(to, SNAPSHOT_STREAM, header, {
      timeoutMs: SNAPSHOT_OPEN_TIMEOUT_MS,
      signal: options.signal,
    })
    const onAbort = (): void => {
      stream.abort(new SwarmError('ABORTED', `snapshot to node ${to}: withdrawn`))
    }
    options.signal.addEventListener('abort', onAbort, { once: true })
    if (options.signal.aborted) onAbort()
    try {
      const answers = stream.source[Symbol.asyncIterator]()
      const offset = await wantedOffset(answers)
      if (offset !== undefined) {
        for await (const chunk of transfer.read(offset)) await stream.write(chunk)
      }
      await stream.end()
      if (offset !== undefined) await untilStored(answers)
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(errorText(error)))
      throw error
    } finally {
      options.signal.removeEventListener('abort', onAbort)
    }
  }

  close(): Promise<void> {
    if (this.#status === 'started') this.#mesh.raft.setReceiver(undefined)
    this.#status = 'closed'
    this.#handler = undefined
    return Promise.resolve()
  }

  #sendBatch(to: string, messages: readonly Message[]): void {
    const frame = encodeMessages(messages)
    if (frame.length > RAFT_FRAME_BYTES_MAX) {
      this.#log.error({ to, sizeBytes: frame.length }, 'raft message is too large and was dropped')
      return
    }
    this.#mesh.raft.send(to, frame)
  }

  #onFrame(from: string, body: Uint8Array): void {
    // Entries live on in the log: a copy keeps the socket's buffers from living on with them.
    for (const message of decodeMessages(new Uint8Array(body))) {
      this.#handler?.onMessage(from, message)
    }
  }

  async #onSnapshot(header: unknown, stream: Duplex): Promise<void> {
    const handler = this.#handler
    if (handler === undefined) {
      throw new SwarmError('SHUTTING_DOWN', 'raft: this node takes no snapshot now')
    }
    if (!(header instanceof Uint8Array)) {
      throw new SwarmError('INVALID_ARGUMENT', 'snapshot: malformed header')
    }
    const offer = decodeTransferHeader(header)
    await handler.onSnapshot(stream.nodeId, { ...offer, read: (offset) => content(stream, offset) })
  }
}

/**
 * The first that comes back: where the receiver wants the content to begin. `undefined` when it
 * ends its half at once, because it needs nothing.
 */
async function wantedOffset(answers: AsyncIterator<Uint8Array>): Promise<number | undefined> {
  let bytes = new Uint8Array()
  while (bytes.length < OFFSET_BYTES) {
    const step = await answers.next()
    if (step.done === true) break
    bytes = Buffer.concat([bytes, step.value])
  }
  if (bytes.length === 0) return undefined
  if (bytes.length !== OFFSET_BYTES) throw new SwarmError('INTERNAL', 'snapshot: malformed offset')
  return Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0))
}

/** The far side ends its half when the snapshot is stored, and fails the stream when it is not. */
async function untilStored(answers: AsyncIterator<Uint8Array>): Promise<void> {
  const step = await answers.next()
  if (step.done === true) return
  throw new SwarmError('INTERNAL', `snapshot: ${step.value.length} bytes came back`)
}

/**
 * Asks for the content from `offset` on.
 * @yields what comes
 */
async function* content(stream: Duplex, offset: number): AsyncGenerator<Uint8Array> {
  const body = new Uint8Array(OFFSET_BYTES)
  new DataView(body.buffer).setBigUint64(0, BigInt(offset))
  await stream.write(body)
  yield* stream.source
}

function isHeartbeat(message: Message): boolean {
  return message.type === 'heartbeat' || message.type === 'heartbeatResp'
}

function sizeOf(message: Message): number {
  if (message.type !== 'app' && message.type !== 'prop') return MESSAGE_OVERHEAD_BYTES
  let size = MESSAGE_OVERHEAD_BYTES
  for (const entry of message.entries) size += ENTRY_OVERHEAD_BYTES + entry.data.length
  return size
}
