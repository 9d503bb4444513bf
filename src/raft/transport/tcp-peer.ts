/**
 * The way to one peer: two connections that this side makes, `bulk` for entries and their answers,
 * `urgent` for heartbeats and votes, so that these never wait behind entries. Both live and die
 * together; after a loss they are made again, at growing intervals, at once when the peer calls.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Random } from '../../base/random.ts'
import type { Message, MessageType } from '../core/message.ts'
import { encodeMessages } from '../runtime/codec.ts'
import type { ServerId } from '../runtime/ports.ts'
import { Connection, type CloseReason } from './tcp-connection.ts'
import { dial } from './tcp-dial.ts'
import { FRAME } from './tcp-frames.ts'
import { encodeHello, type Lane } from './tcp-hello.ts'

/** Rest before the connections are made again, doubled each time, plus a random part. */
const BACKOFF_MIN_MS = 20
const BACKOFF_MAX_MS = 1_000
/** Bytes of heartbeats and votes that wait; newer ones are dropped, the next will tell the same. */
const URGENT_QUEUE_BYTES_MAX = 64 * 1024
/** Entries of several messages share a frame up to about this size. */
const BATCH_BYTES_MAX = 256 * 1024
const MESSAGE_OVERHEAD_BYTES = 128
const ENTRY_OVERHEAD_BYTES = 24

const URGENT: ReadonlySet<MessageType> = new Set<MessageType>([
  'heartbeat',
  'heartbeatResp',
  'vote',
  'preVote',
  'voteResp',
  'preVoteResp',
  'timeoutNow',
])

interface PeerComponents {
  readonly clock: Clock
  readonly random: Random
}

/** Who is connected, and who is told when that ends. */
export interface PeerSettings {
  readonly self: ServerId
  readonly id: ServerId
  readonly address: string
  readonly onUnreachable: (reason: CloseReason) => void
}

/** Sends to one peer. */
export class TcpPeer {
  readonly #components: PeerComponents
  readonly #settings: PeerSettings
  #lanes: { readonly bulk: Connection; readonly urgent: Connection } | undefined
  #dialling: AbortController | undefined
  #timer: Timer | undefined
  #backoffMs = BACKOFF_MIN_MS
  #closed = false

  constructor(components: PeerComponents, settings: PeerSettings) {
    this.#components = components
    this.#settings = settings
    this.#dial()
  }

  get address(): string {
    return this.#settings.address
  }

  /** Sends what one turn has; what does not fit the queue is lost. */
  send(messages: readonly Message[]): void {
    const lanes = this.#lanes
    if (lanes === undefined) return
    let batch: Message[] = []
    let batchBytes = 0
    for (const message of messages) {
      if (URGENT.has(message.type)) {
        lanes.urgent.send(FRAME.messages, encodeMessages([message]), URGENT_QUEUE_BYTES_MAX)
        continue
      }
      const bytes = sizeOf(message)
      if (batch.length > 0 && batchBytes + bytes > BATCH_BYTES_MAX) {
        lanes.bulk.send(FRAME.messages, encodeMessages(batch))
        batch = []
        batchBytes = 0
      }
      batch.push(message)
      batchBytes += bytes
    }
    if (batch.length > 0) lanes.bulk.send(FRAME.messages, encodeMessages(batch))
  }

  /** The peer called: it is up, so need not be waited for. */
  nudge(): void {
    this.#backoffMs = BACKOFF_MIN_MS
    if (this.#timer !== undefined) this.#dial()
  }

  tick(): void {
    this.#lanes?.bulk.tick()
    this.#lanes?.urgent.tick()
  }

  close(): void {
    this.#closed = true
    this.#timer?.cancel()
    this.#timer = undefined
    this.#dialling?.abort()
    const lanes = this.#lanes
    this.#lanes = undefined
    lanes?.bulk.end()
    lanes?.urgent.end()
  }

  #dial(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    const dialling = new AbortController()
    this.#dialling = dialling
    this.#connect(dialling).catch((error: unknown) => {
      if (!(error instanceof SwarmError)) throw error
      if (!this.#closed) this.#onLost('timeout')
    })
  }

  async #connect(dialling: AbortController): Promise<void> {
    const bulk = await this.#open('bulk', dialling)
    try {
      const urgent = await this.#open('urgent', dialling)
      this.#lanes = { bulk, urgent }
      dialling.signal.throwIfAborted()
    } catch (error) {
      bulk.close('closed', 'the other lane is not there')
      throw error
    }
  }

  async #open(lane: Exclude<Lane, 'snapshot'>, dialling: AbortController): Promise<Connection> {
    const { self, id, address } = this.#settings
    const socket = await dial(this.#components.clock, address, dialling.signal)
    const connection = new Connection(socket, {
      onFrame: () => {
        throw new SwarmError('INVALID_ARGUMENT', 'raft connection: unexpected answer')
      },
      onClose: (reason) => {
        dialling.abort(new SwarmError('UNAVAILABLE', 'raft connection: a lane is lost'))
        this.#onLost(reason)
      },
    })
    connection.send(FRAME.hello, encodeHello({ from: self, to: id, lane }))
    return connection
  }

  #onLost(reason: CloseReason): void {
    const lanes = this.#lanes
    this.#lanes = undefined
    if (this.#closed || this.#timer !== undefined) return
    const { clock, random } = this.#components
    const restMs = this.#backoffMs + random.integer(this.#backoffMs)
    this.#backoffMs = Math.min(2 * this.#backoffMs, BACKOFF_MAX_MS)
    this.#timer = clock.after(restMs, () => this.#dial())
    lanes?.bulk.close(reason, 'the other lane is lost')
    lanes?.urgent.close(reason, 'the other lane is lost')
    this.#settings.onUnreachable(reason)
  }
}

function sizeOf(message: Message): number {
  if (message.type !== 'app' && message.type !== 'prop') return MESSAGE_OVERHEAD_BYTES
  let size = MESSAGE_OVERHEAD_BYTES
  for (const entry of message.entries) size += ENTRY_OVERHEAD_BYTES + entry.data.length
  return size
}
