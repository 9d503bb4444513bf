/**
 * The link to one member: dials until there is a session, keeps one session when both sides
 * dialled, notices a peer that fell silent, and begins again. For ever, until the member is
 * removed.
 *
 * Invariants: at most one dial at a time; requests and Raft messages leave on `#current` alone,
 * while every open session is read; `#current` is the session dialled by the smaller peer id when
 * there are two, so that both sides choose the same one.
 * Why own liveness: without it a peer behind a cut cable is noticed after minutes, and libp2p's
 * monitor kills busy connections (`reference/libp2p.md` §3.3, §4.4). Silence is only counted while
 * this process was able to listen: a late timer of our own is not the peer's fault.
 */
import type { Connection } from '@libp2p/interface'
import type { Clock, Timer } from '../base/clock.ts'
import { errorText, SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { ControlLane, RequestHandlers } from './control-lane.ts'
import { deadline } from './deadline.ts'
import type { DialSlots } from './dial-slots.ts'
import type { FrameChannel } from './frame-channel.ts'
import type { Member, PeerState } from './ports.ts'
import { Session, type LossReason } from './session.ts'

/** Timers of a link, milliseconds. */
export interface LinkTimers {
  /**
   * When one side was silent for so long, it sends a ping: to ask for a sign of life, or to give
   * one to a peer whose own pings wait behind a long upload.
   */
  readonly pingIntervalMs: number
  /** A peer that was silent for so long is dead. */
  readonly deadAfterMs: number
  /** For each address; twice and three times as long when that was too short for the handshake. */
  readonly dialTimeoutMs: number
  /** Bounds of the random wait between dials; the upper one doubles up to `backoffMaxMs`. */
  readonly backoffMinMs: number
  readonly backoffMaxMs: number
  /** The larger peer id lets the smaller one dial first, so that two sessions are rare. */
  readonly dialYieldMs: number
}

/** Safe on a LAN with event-loop stalls up to 0.1 s (`reference/libp2p.md` §5.5). */
export const DEFAULT_LINK_TIMERS: LinkTimers = {
  pingIntervalMs: 500,
  deadAfterMs: 1_500,
  dialTimeoutMs: 1_500,
  backoffMinMs: 250,
  backoffMaxMs: 5_000,
  dialYieldMs: 100,
}

/** A session that lasted so long ended for another reason than the one before. */
export const STABLE_SESSION_MS = 2_000
/** How often a dial's timeout is lengthened for slow boards, busy hosts and long lines. */
const DIAL_PATIENCE_MAX = 2
/** How long the second session stays, so that answers on their way arrive. */
export const DUPLICATE_GRACE_MS = 2_000
/** Round trips are measured this often even when the peer is never silent. */
export const RTT_INTERVAL_MS = 10_000

/** What a link is built from. */
export interface LinkComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly handlers: RequestHandlers
  readonly slots: DialSlots
  /** Makes a connection to `address` whose far end proves to be `peerId`. */
  dial(peerId: string, address: string, signal: AbortSignal): Promise<Connection>
  /** Aborts every connection to `peerId`. */
  hangUp(peerId: string): void
}

/** Which node this is. */
export interface LinkSelf {
  readonly nodeId: string
  readonly peerId: string
  readonly incarnation: string
}

/** What the mesh is told. */
export interface LinkEvents {
  /** `reason` when the member became unreachable. */
  onReachable(state: PeerState, reason?: LossReason): void
  onRaftFrame(nodeId: string, body: Uint8Array): void
}

/** The link to one member. */
export class Link {
  readonly #components: LinkComponents
  readonly #self: LinkSelf
  readonly #timers: LinkTimers
  readonly #events: LinkEvents
  readonly #log: Logger
  #member: Member
  #closed = false
  /** Open sessions by connection id: opening or up. */
  readonly #sessions = new Map<string, Session>()
  #current: Session | undefined
  #sinceMs: number
  #lastPingMs = 0
  /** Dials in a row that did not lead to a lasting session. */
  #attempt = 0
  #dialling = false
  #dialTimer: Timer | undefined
  /** When the next dial begins; only while a timer runs. */
  #dialDueMs = Number.POSITIVE_INFINITY

  constructor(
    member: Member,
    self: LinkSelf,
    components: LinkComponents,
    options: { readonly timers: LinkTimers; readonly events: LinkEvents },
  ) {
    this.#member = member
    this.#self = self
    this.#components = components
    this.#timers = options.timers
    this.#events = options.events
    this.#log = components.log.child({ peer: member.nodeId })
    this.#sinceMs = components.clock.monotonicMs()
    this.#scheduleDial(this.#yieldMs())
  }

  get state(): PeerState {
    const rttMs = this.#current?.rttMs
    return {
      nodeId: this.#member.nodeId,
      reachable: this.#current !== undefined,
      sinceMs: this.#sinceMs,
      ...(rttMs === undefined ? {} : { rttMs }),
    }
  }

  get member(): Member {
    return this.#member
  }

  /** The control lane to use now; undefined while unreachable. */
  get control(): ControlLane | undefined {
    return this.#current?.control
  }

  /** The raft channel to use now; undefined while unreachable. */
  get raft(): FrameChannel | undefined {
    return this.#current?.raft
  }

  /** The session to open streams on; undefined while unreachable. */
  get session(): Session | undefined {
    return this.#current
  }

  /** New addresses; dials at once when unreachable and they changed. */
  update(member: Member): void {
    const changed = member.addresses.join() !== this.#member.addresses.join()
    this.#member = member
    if (changed && this.#sessions.size === 0 && !this.#dialling) this.#scheduleDial(0)
  }

  /** The network seems to be back: dials soon, whatever failed before. */
  nudge(): void {
    if (this.#sessions.size > 0 || this.#dialling) return
    this.#attempt = Math.min(this.#attempt, 1)
    const delayMs = this.#backoffMs()
    if (this.#components.clock.monotonicMs() + delayMs < this.#dialDueMs)
      this.#scheduleDial(delayMs)
  }

  /** The session of `connection`, made when this is its first stream. */
  sessionOf(connection: Connection): Session {
    const known = this.#sessions.get(connection.id)
    if (known !== undefined) return known
    const { nodeId, peerId } = this.#member
    const session = new Session(
      connection,
      { nodeId, peerId, self: this.#self },
      this.#components,
      {
        onUp: (which) => this.#onUp(which),
        onRaftFrame: (body) => this.#events.onRaftFrame(nodeId, body),
        onClosed: (which, reason, cause) => this.#onClosed(which, reason, cause),
      },
    )
    if (session.status !== 'closed') this.#sessions.set(connection.id, session)
    return session
  }

  /** Called a few times a second; `stalledMs` is how late the caller's timer was. */
  tick(stalledMs: number): void {
    for (const session of this.#sessions.values()) {
      if (session.status === 'up') this.#checkLiveness(session, stalledMs)
    }
    this.#dropDuplicates()
  }

  /** Ends the link for good and cuts every connection to the peer. */
  close(cause: string): void {
    this.#closed = true
    this.#dialTimer?.cancel()
    for (const session of this.#sessions.values()) session.close('closed', cause)
    this.#components.hangUp(this.#member.peerId)
  }

  #checkLiveness(session: Session, stalledMs: number): void {
    const silenceMs = session.silenceMs(stalledMs)
    if (silenceMs >= this.#timers.deadAfterMs) {
      session.close('timeout', `silent for ${Math.round(silenceMs)} ms`)
      return
    }
    const now = this.#components.clock.monotonicMs()
    const { pingIntervalMs } = this.#timers
    const due = session === this.#current && now - this.#lastPingMs >= RTT_INTERVAL_MS
    if (silenceMs >= pingIntervalMs || session.quietMs() >= pingIntervalMs || due) {
      session.control?.ping()
      this.#lastPingMs = now
    }
  }

  #dropDuplicates(): void {
    const current = this.#current
    if (current === undefined) return
    const now = this.#components.clock.monotonicMs()
    for (const session of this.#sessions.values()) {
      const age = now - Math.max(session.upSinceMs, current.upSinceMs)
      if (
        session !== current &&
        session.status === 'up' &&
        session.idle &&
        age > DUPLICATE_GRACE_MS
      ) {
        session.close('closed', 'second session to the same peer')
      }
    }
  }

  #onUp(session: Session): void {
    for (const other of this.#sessions.values()) {
      const stale = other.incarnation !== undefined && other.incarnation !== session.incarnation
      if (stale) other.close('closed', 'the peer was started anew')
    }
    this.#dialTimer?.cancel()
    this.#choose()
  }

  #onClosed(session: Session, reason: LossReason, cause: string): void {
    this.#sessions.delete(session.connection.id)
    const livedMs = this.#components.clock.monotonicMs() - session.upSinceMs
    const lasted = session.upSinceMs > 0 && livedMs >= STABLE_SESSION_MS
    if (lasted) this.#attempt = 0
    this.#log.debug({ reason, cause, dialled: session.dialled }, 'session closed')
    this.#choose(reason)
    if (this.#sessions.size > 0 || this.#dialling) return
    if (!lasted) this.#attempt += 1
    this.#scheduleDial(lasted ? this.#yieldMs() : this.#backoffMs())
  }

  /** Assigns `#current`, the only place that does, and tells when reachability changed. */
  #choose(reason?: LossReason): void {
    const up = [...this.#sessions.values()].filter((session) => session.status === 'up')
    const preferDialled = this.#self.peerId < this.#member.peerId
    const next = up.find((session) => session.dialled === preferDialled) ?? up[0]
    const wasReachable = this.#current !== undefined
    this.#current = next
    if (wasReachable === (next !== undefined)) return
    this.#sinceMs = this.#components.clock.monotonicMs()
    this.#log.info({ reachable: next !== undefined, reason }, 'peer reachability changed')
    this.#events.onReachable(this.state, reason)
  }

  #yieldMs(): number {
    return this.#self.peerId < this.#member.peerId ? 0 : this.#timers.dialYieldMs
  }

  /** Full jitter: anywhere between the least wait and a bound that doubles. */
  #backoffMs(): number {
    const { backoffMinMs, backoffMaxMs } = this.#timers
    const bound = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(this.#attempt, 16))
    const floor = Math.min(backoffMinMs / 5, bound)
    return floor + this.#components.random.integer(Math.max(1, Math.floor(bound - floor)))
  }

  #scheduleDial(delayMs: number): void {
    this.#dialTimer?.cancel()
    if (this.#closed) return
    const { clock } = this.#components
    this.#dialDueMs = clock.monotonicMs() + delayMs
    this.#dialTimer = clock.after(delayMs, () => {
      this.#dialDueMs = Number.POSITIVE_INFINITY
      // Owned by the link: `#dial` handles every operating error itself.
      void this.#dial()
    })
  }

  async #dial(): Promise<void> {
    if (this.#closed || this.#dialling || this.#sessions.size > 0) return
    this.#dialling = true
    using slot = await this.#components.slots.take()
    if (slot.granted) await this.#dialAddresses()
    this.#dialling = false
    if (this.#sessions.size > 0) return
    this.#attempt += 1
    this.#scheduleDial(this.#backoffMs())
  }

  async #dialAddresses(): Promise<void> {
    for (const address of this.#member.addresses) {
      if (this.#closed || this.#current !== undefined) return
      if (await this.#dialAddress(address)) return
    }
  }

  async #dialAddress(address: string): Promise<boolean> {
    const { clock } = this.#components
    const patience = 1 + Math.min(this.#attempt, DIAL_PATIENCE_MAX)
    const timeoutMs = this.#timers.dialTimeoutMs * patience
    using limit = deadline(clock, timeoutMs, `dial ${address}`)
    let session: Session | undefined
    try {
      const { peerId } = this.#member
      const connection = await this.#components.dial(peerId, address, limit.signal)
      if (this.#closed) {
        connection.abort(new SwarmError('ABORTED', 'link: closed while dialling'))
        return false
      }
      session = this.sessionOf(connection)
      await session.openStreams(limit.signal)
      return session.status !== 'closed'
    } catch (error) {
      this.#log.debug({ address, err: errorText(error) }, 'dial failed')
      session?.close('closed', `streams not opened: ${errorText(error)}`)
      return false
    }
  }
}
