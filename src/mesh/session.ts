/**
 * A session: one libp2p connection to a member with its two long-lived streams. The side that
 * dialled opens them, raft first (Yamux lets streams write in the order of their creation), and
 * both sides say hello on the control stream. Only then does the session count as up.
 *
 *   opening ──streams and hello──► up ──connection, a stream, or liveness lost──► closed
 *      └───────────────deadline, refusal──────────────────────────────────────────┘
 */
import type { Connection } from '@libp2p/interface'
import type { Clock, Timer } from '../base/clock.ts'
import { errorText, SwarmError } from '../base/errors.ts'
import { COMMAND_BYTES_MAX, INFLIGHT_BYTES_MAX } from '../raft/runtime/options.ts'
import { BulkWindow } from './bulk-window.ts'
import { ControlLane, type RequestHandlers } from './control-lane.ts'
import { MESH_PROTOCOL_VERSION, type Hello } from './control-message.ts'
import { FrameChannel } from './frame-channel.ts'
import type { MuxedStream } from './muxed-stream.ts'
import { relayOf } from './tunnel/tunnel-wire.ts'

/** Protocol of Raft's messages. */
export const RAFT_PROTOCOL = '/skein/raft/1'
/** Protocol of requests, answers and pings. */
export const CONTROL_PROTOCOL = '/skein/control/1'

/** Time for streams and hello after the connection is made. */
export const HELLO_TIMEOUT_MS = 5_000
/** Largest frame of Raft's stream: one command with its envelope. */
export const RAFT_FRAME_BYTES_MAX = COMMAND_BYTES_MAX + 64 * 1024
/**
 * Bytes of Raft messages that wait for a slow peer: what Raft lets be under way, and one command
 * more. What exceeds them is dropped; Raft repeats it.
 */
export const RAFT_QUEUE_BYTES_MAX = INFLIGHT_BYTES_MAX + RAFT_FRAME_BYTES_MAX

/** Weight of a new sample in the smoothed round-trip time (RFC 6298: 1/8). */
const RTT_GAIN = 1 / 8

/** Why a session ended: its process or its connection went away, or it fell silent. */
export type LossReason = 'closed' | 'timeout'

/** For how long nothing was heard of a peer. */
export interface Silence {
  /** Up to the moment at which this process began not to listen, or to now. */
  readonly silentMs: number
  /** How much of it this process listened. */
  readonly listenedMs: number
}

/** What a session needs. */
export interface SessionComponents {
  readonly clock: Clock
  readonly handlers: RequestHandlers
}

/** Who talks: fixed for the life of a session. */
export interface SessionPeers {
  readonly nodeId: string
  readonly peerId: string
  readonly self: { readonly nodeId: string; readonly incarnation: string }
}

/** What the link is told. */
export interface SessionEvents {
  onUp(session: Session): void
  onRaftFrame(body: Uint8Array): void
  /** Once. `wasUp` tells a lost session from one that never came to be. */
  onClosed(session: Session, reason: LossReason, cause: string): void
}

/** One connection and its streams. */
export class Session {
  readonly connection: Connection
  /** This side dialled. */
  readonly dialled: boolean
  /** The member beside this node through which the connection runs; undefined = direct. */
  readonly via: string | undefined
  /** Shared by the byte streams that leave on this connection. */
  readonly bulkWindow = new BulkWindow()
  readonly #components: SessionComponents
  readonly #peers: SessionPeers
  readonly #events: SessionEvents
  readonly #helloTimer: Timer
  #status: 'opening' | 'up' | 'closed' = 'opening'
  #control: ControlLane | undefined
  #raft: FrameChannel | undefined
  #peerHello: Hello | undefined
  /** When anything was heard last; monotonic. */
  #heardMs: number
  /** For how long this process has not listened since then, as far as it was told. */
  #stalledMs = 0
  #upSinceMs = 0
  #rttMs: number | undefined
  /** Sends that were counted when `#sentMs` was set last. */
  #sends = 0
  #sentMs: number
  /** Open duplex streams on this connection. */
  #duplexes = 0

  constructor(
    connection: Connection,
    peers: SessionPeers,
    components: SessionComponents,
    events: SessionEvents,
  ) {
    this.connection = connection
    this.dialled = connection.direction === 'outbound'
    this.via = relayOf(connection)
    this.#components = components
    this.#peers = peers
    this.#events = events
    this.#heardMs = components.clock.monotonicMs()
    this.#sentMs = this.#heardMs
    this.#helloTimer = components.clock.after(HELLO_TIMEOUT_MS, () => {
      this.close('timeout', 'no hello in time')
    })
    connection.addEventListener('close', (event) => {
      const cause = event.error === undefined ? 'connection closed' : errorText(event.error)
      this.#onClosed(lossReason(event.error), cause)
    })
    if (connection.status !== 'open') this.#onClosed('closed', 'connection closed')
  }

  get nodeId(): string {
    return this.#peers.nodeId
  }

  get status(): 'opening' | 'up' | 'closed' {
    return this.#status
  }

  /** Tells starts of the same node apart; undefined before its hello. */
  get incarnation(): string | undefined {
    return this.#peerHello?.incarnation
  }

  get rttMs(): number | undefined {
    return this.#rttMs
  }

  get upSinceMs(): number {
    return this.#upSinceMs
  }

  /** The control lane of a session that is up. */
  get control(): ControlLane | undefined {
    return this.#status === 'up' ? this.#control : undefined
  }

  /** The raft channel of a session that is up. */
  get raft(): FrameChannel | undefined {
    return this.#status === 'up' ? this.#raft : undefined
  }

  /** Whether nobody waits for anything on this session. */
  get idle(): boolean {
    return this.#duplexes === 0 && (this.#control?.inFlight ?? 0) === 0
  }

  /** Dialling side: opens both streams and says hello. Rejects when that fails. */
  async openStreams(signal: AbortSignal): Promise<void> {
    const [raft, control] = await Promise.all([
      this.connection.newStream(RAFT_PROTOCOL, { signal }),
      this.connection.newStream(CONTROL_PROTOCOL, { signal }),
    ])
    this.attachRaft(raft)
    this.attachControl(control)
    this.#sayHello()
  }

  /** Takes the raft stream. */
  attachRaft(stream: MuxedStream): void {
    if (this.#raft !== undefined || this.#status === 'closed') {
      stream.abort(new SwarmError('FAILED_PRECONDITION', 'raft stream: one a session'))
      return
    }
    const options = { frameBytesMax: RAFT_FRAME_BYTES_MAX, queueBytesMax: RAFT_QUEUE_BYTES_MAX }
    this.#raft = new FrameChannel(stream, options, {
      onBytes: () => this.heard(),
      onFrame: (body) => this.#events.onRaftFrame(body),
      onClose: (reason) => this.close('closed', `raft stream: ${reason}`),
    })
    this.#maybeUp()
  }

  /** Takes the control stream. */
  attachControl(stream: MuxedStream): void {
    if (this.#control !== undefined || this.#status === 'closed') {
      stream.abort(new SwarmError('FAILED_PRECONDITION', 'control stream: one a session'))
      return
    }
    const { clock, handlers } = this.#components
    const components = { clock, handlers, stream }
    this.#control = new ControlLane(this.#peers.nodeId, components, {
      onBytes: () => this.heard(),
      onHello: (hello) => this.#onHello(hello),
      onRoundTrip: (rttMs) => this.#onRoundTrip(rttMs),
      onClose: (reason) => this.close('closed', `control stream: ${reason}`),
    })
    this.#maybeUp()
  }

  /** Counts a duplex stream until `closed` resolves. */
  async trackDuplex(closed: Promise<void>): Promise<void> {
    this.#duplexes += 1
    await closed
    this.#duplexes -= 1
  }

  /** Something came from the peer. */
  heard(): void {
    this.#heardMs = this.#components.clock.monotonicMs()
    this.#stalledMs = 0
  }

  /**
   * How long the peer has been silent; this process did not listen in the last `stalledMs`. What
   * came in these is read after this call, what came in earlier stalls has been read.
   */
  silence(stalledMs: number): Silence {
    const sinceMs = this.#components.clock.monotonicMs() - this.#heardMs
    this.#stalledMs += Math.min(stalledMs, sinceMs)
    return {
      silentMs: Math.max(0, sinceMs - stalledMs),
      listenedMs: Math.max(0, sinceMs - this.#stalledMs),
    }
  }

  /** For how long the peer has had no frame from here, as far as earlier calls can tell. */
  quietMs(): number {
    const now = this.#components.clock.monotonicMs()
    const sends = (this.#control?.sends ?? 0) + (this.#raft?.sends ?? 0)
    if (sends !== this.#sends) this.#sentMs = now
    this.#sends = sends
    return now - this.#sentMs
  }

  /** Drops the connection at once. */
  close(reason: LossReason, cause: string): void {
    if (this.#status === 'closed') return
    this.#onClosed(reason, cause)
    this.connection.abort(new SwarmError('UNAVAILABLE', `session: ${cause}`))
  }

  #sayHello(): void {
    const { nodeId, incarnation } = this.#peers.self
    this.#control?.hello({ type: 'hello', version: MESH_PROTOCOL_VERSION, nodeId, incarnation })
  }

  #onHello(hello: Hello): void {
    if (hello.version !== MESH_PROTOCOL_VERSION) {
      throw new SwarmError(
        'FAILED_PRECONDITION',
        `node ${this.#peers.nodeId}: speaks version ${hello.version} of the mesh's protocol`,
      )
    }
    if (hello.nodeId !== this.#peers.nodeId || this.#peerHello !== undefined) {
      throw new SwarmError('FAILED_PRECONDITION', `node ${this.#peers.nodeId}: unexpected hello`)
    }
    this.#peerHello = hello
    this.#maybeUp()
  }

  #maybeUp(): void {
    if (this.#status !== 'opening' || this.#peerHello === undefined) return
    if (this.#raft === undefined || this.#control === undefined) return
    this.#status = 'up'
    this.#upSinceMs = this.#components.clock.monotonicMs()
    this.#helloTimer.cancel()
    if (!this.dialled) this.#sayHello()
    this.#events.onUp(this)
  }

  #onRoundTrip(sampleMs: number): void {
    const before = this.#rttMs ?? sampleMs
    this.#rttMs = before + (sampleMs - before) * RTT_GAIN
  }

  #onClosed(reason: LossReason, cause: string): void {
    if (this.#status === 'closed') return
    this.#status = 'closed'
    this.#helloTimer.cancel()
    this.#events.onClosed(this, reason, cause)
  }
}

/** The kernel's own give-up is silence; everything else is an end that somebody made. */
const SILENCE_CODES: ReadonlySet<unknown> = new Set(['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'])

function lossReason(error: Error | undefined): LossReason {
  return error !== undefined && 'code' in error && SILENCE_CODES.has(error.code)
    ? 'timeout'
    : 'closed'
}
