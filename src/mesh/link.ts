/**
 * The link to one member: dials until there is a session, keeps one session when both sides
 * dialled, notices a peer that fell silent, and begins again. For ever, until the member is
 * removed. While no dial succeeds it goes through other members (`tunnel/`), and comes back.
 *
 * Invariants: requests and Raft messages leave on `#current` alone, while every open session is
 * read; `#current` is a direct session when there is one, and of two of a kind the one dialled by
 * the smaller peer id, so that both sides choose the same one. A session that was superseded stays
 * until nobody waits for anything on it: the way changes and no request is lost.
 * Why own liveness: without it a peer behind a cut cable is noticed after minutes, and libp2p's
 * monitor kills busy connections (`reference/libp2p.md` §3.3, §4.4). A late timer of our own is not
 * the peer's fault: of silence the stall that has just ended does not count, and before a verdict
 * this process has listened for as long as a living peer is silent at most. Stalls before that
 * count, since what came in them has been read: a busy process notices a death, too.
 */
import type { Connection } from '@libp2p/interface'
import type { Clock } from '../base/clock.ts'
import { errorText, SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import type { ControlLane, RequestHandlers } from './control-lane.ts'
import { deadline } from '../base/deadline.ts'
import { DialLoop } from './dial-loop.ts'
import type { DialSlots } from './dial-slots.ts'
import type { FrameChannel } from './frame-channel.ts'
import type { Member, PeerState } from './ports.ts'
import { Session, type LossReason } from './session.ts'
import type { Neighbour } from './tunnel/link-states.ts'

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
/** What a direct dial has before a way through others is sought; the larger peer id waits twice. */
export const TUNNEL_YIELD_MS = 300
/** How much less often a tunnel is sought that nobody can carry: news of others' links hurry it. */
const TUNNEL_PATIENCE = 3
/** Bound of what a slow relay adds to the time after which a silent member is dead. */
const RELAYED_ALLOWANCE_MAX_MS = 500
/** Time for a tunnel and its streams; each part of it has a shorter one of its own. */
const TUNNEL_STREAMS_TIMEOUT_MS = 8_000
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
  /** Makes a connection through others; undefined when nobody is known to reach the member. */
  tunnel(nodeId: string): Promise<Connection | undefined>
  readonly tunnelSlots: DialSlots
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
  /** The member is reached another way than before, or its direct sessions came or went. */
  onWay(state: PeerState): void
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
  /** Dials the member's addresses while there is no direct session. */
  readonly #dials: DialLoop
  /** Seeks a way through others while there is no session. */
  readonly #tunnels: DialLoop

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
    this.#dials = new DialLoop(components, this.#timers, {
      wanted: () => !this.#sessionList().some((session) => session.via === undefined),
      attempt: (failures) => this.#dialAddresses(failures),
    })
    const tunnelComponents = { ...components, slots: components.tunnelSlots }
    const { backoffMinMs, backoffMaxMs } = this.#timers
    const tunnelTimers = { backoffMinMs, backoffMaxMs: TUNNEL_PATIENCE * backoffMaxMs }
    this.#tunnels = new DialLoop(tunnelComponents, tunnelTimers, {
      wanted: () =>
        this.#current === undefined && this.#sessionList().every(({ via }) => via === undefined),
      attempt: () => this.#openTunnel(),
    })
    this.#dials.schedule(this.#yieldMs())
    this.#tunnels.schedule(this.#tunnelYieldMs())
  }

  get state(): PeerState {
    const { rttMs, via } = this.#current ?? {}
    return {
      nodeId: this.#member.nodeId,
      reachable: this.#current !== undefined,
      sinceMs: this.#sinceMs,
      ...(rttMs === undefined ? {} : { rttMs }),
      ...(via === undefined ? {} : { via }),
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

  /** As `session`, when it needs no other member. */
  get direct(): Session | undefined {
    return this.#current?.via === undefined ? this.#current : undefined
  }

  /** The member as one who may carry tunnels; undefined when it needs one itself. */
  get neighbour(): Neighbour | undefined {
    const session = this.direct
    if (session === undefined) return undefined
    const { rttMs, incarnation = '' } = session
    return { nodeId: this.#member.nodeId, incarnation, rttMs }
  }

  /** New addresses; dials at once when there is no direct session and they changed. */
  update(member: Member): void {
    const changed = member.addresses.join() !== this.#member.addresses.join()
    this.#member = member
    if (changed) this.#dials.schedule(0)
  }

  /** The network seems to be back: dials soon, whatever failed before. */
  nudge(): void {
    this.#dials.nudge()
    this.#tunnels.nudge()
  }

  /** Others have new links: seeks a way through them soon. */
  nudgeTunnel(): void {
    this.#tunnels.nudge()
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
    this.#dials.stop()
    this.#tunnels.stop()
    for (const session of this.#sessions.values()) session.close('closed', cause)
    this.#components.hangUp(this.#member.peerId)
  }

  #checkLiveness(session: Session, stalledMs: number): void {
    const { silentMs, listenedMs } = session.silence(stalledMs)
    const { pingIntervalMs } = this.#timers
    const deadAfterMs = this.#timers.deadAfterMs + relayedAllowanceMs(session)
    if (silentMs >= deadAfterMs && listenedMs >= pingIntervalMs) {
      session.close('timeout', `silent for ${Math.round(silentMs)} ms`)
      return
    }
    const now = this.#components.clock.monotonicMs()
    const due = session === this.#current && now - this.#lastPingMs >= RTT_INTERVAL_MS
    if (silentMs >= pingIntervalMs || session.quietMs() >= pingIntervalMs || due) {
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
    this.#tunnels.pause()
    if (session.via === undefined) this.#dials.pause()
    this.#choose()
  }

  #onClosed(session: Session, reason: LossReason, cause: string): void {
    this.#sessions.delete(session.connection.id)
    const livedMs = this.#components.clock.monotonicMs() - session.upSinceMs
    const lasted = session.upSinceMs > 0 && livedMs >= STABLE_SESSION_MS
    this.#log.debug({ reason, cause, dialled: session.dialled }, 'session closed')
    // How a relay ended says nothing of the member behind it.
    this.#choose(session.via === undefined ? reason : 'timeout')
    if (session.via === undefined) {
      if (lasted) this.#dials.restart(this.#yieldMs())
      else this.#dials.failed()
      this.#tunnels.atLatest(this.#tunnelYieldMs())
    } else if (lasted) this.#tunnels.restart(this.#yieldMs())
    else this.#tunnels.failed()
  }

  /** Assigns `#current`, the only place that does, and tells what changed. */
  #choose(reason?: LossReason): void {
    const before = this.#current
    const now = this.#best()
    this.#current = now
    const reachable = now !== undefined
    const turned = reachable !== (before !== undefined)
    if (turned) this.#sinceMs = this.#components.clock.monotonicMs()
    if (turned || now?.via !== before?.via || now?.incarnation !== before?.incarnation) {
      this.#log.info({ reachable, via: now?.via, reason }, 'peer reachability changed')
      this.#events.onWay(this.state)
    }
    if (turned) this.#events.onReachable(this.state, reason)
  }

  #best(): Session | undefined {
    const up = this.#sessionList().filter((session) => session.status === 'up')
    const direct = up.filter((session) => session.via === undefined)
    const kind = direct.length > 0 ? direct : up
    const preferDialled = this.#self.peerId < this.#member.peerId
    return kind.find((session) => session.dialled === preferDialled) ?? kind[0]
  }

  #sessionList(): Session[] {
    return [...this.#sessions.values()]
  }

  #yieldMs(): number {
    return this.#self.peerId < this.#member.peerId ? 0 : this.#timers.dialYieldMs
  }

  /** The smaller peer id asks first, so that one tunnel is made. */
  #tunnelYieldMs(): number {
    return this.#self.peerId < this.#member.peerId ? TUNNEL_YIELD_MS : 2 * TUNNEL_YIELD_MS
  }

  async #dialAddresses(failures: number): Promise<void> {
    const patience = 1 + Math.min(failures, DIAL_PATIENCE_MAX)
    const timeoutMs = this.#timers.dialTimeoutMs * patience
    for (const address of this.#member.addresses) {
      if (this.#closed || this.direct !== undefined) return
      using limit = deadline(this.#components.clock, timeoutMs, `dial ${address}`)
      const { signal } = limit
      const { peerId } = this.#member
      const dial = (): Promise<Connection> => this.#components.dial(peerId, address, signal)
      if (await this.#begin(dial, signal, address)) return
    }
  }

  async #openTunnel(): Promise<void> {
    const { clock } = this.#components
    const connect = (): Promise<Connection | undefined> =>
      this.#components.tunnel(this.#member.nodeId)
    using limit = deadline(clock, TUNNEL_STREAMS_TIMEOUT_MS, 'tunnel')
    await this.#begin(connect, limit.signal, 'tunnel')
  }

  /** Makes a connection and a session on it; false when that failed. */
  async #begin(
    connect: () => Promise<Connection | undefined>,
    signal: AbortSignal,
    how: string,
  ): Promise<boolean> {
    let session: Session | undefined
    try {
      const connection = await connect()
      if (connection === undefined) return false
      if (this.#closed) {
        connection.abort(new SwarmError('ABORTED', 'link: closed while dialling'))
        return false
      }
      session = this.sessionOf(connection)
      await session.openStreams(signal)
      return session.status !== 'closed'
    } catch (error) {
      this.#log.debug({ how, err: errorText(error) }, 'dial failed')
      session?.close('closed', `streams not opened: ${errorText(error)}`)
      return false
    }
  }
}

/** A busy relay is no silence of the member: two round trips more, half a second at most. */
function relayedAllowanceMs({ via, rttMs = 0 }: Session): number {
  return via === undefined ? 0 : Math.min(RELAYED_ALLOWANCE_MAX_MS, 2 * rttMs)
}
