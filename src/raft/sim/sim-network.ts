/**
 * The network of a simulation. Each direction of each pair of nodes is a link with its own chance:
 * frames are lost, come twice, come late, overtake each other, wait in a clogged link or find its
 * queue full. Links are blocked by partitions; what is on the way then is lost too.
 * Source: reference/raft.md §4.1 (TigerBeetle's `packet_simulator.zig`), in own words.
 */
import type { Message } from '../core/message.ts'
import { decodeMessages, encodeMessages } from '../runtime/codec.ts'
import type { ServerId, SnapshotTransfer } from '../runtime/ports.ts'
import { Dice } from './dice.ts'
import type { EventLoop } from './event-loop.ts'
import { streamSnapshot } from './snapshot-stream.ts'
import type { Host } from './event.ts'
import type { Station } from './station.ts'

/** How the network behaves. */
export interface NetworkManners {
  minDelayMs: number
  meanDelayMs: number
  loss: number
  duplication: number
  /** Whether frames of one link may overtake each other. */
  reorders: boolean
  /** Frames on the way on one link; more are lost. */
  capacity: number
  /** Chance that the others see it when a process ends. */
  closeNotice: number
  /** Chance that a frame comes once more, much later; 0 when absent. */
  straggling?: number
  /** Until when such a frame comes at most, milliseconds after the first. */
  stragglesMs?: number
}

/** Bad weather. */
export interface Storm {
  /** Whether it hits what is sent to this member. */
  readonly hits: (to: ServerId) => boolean
  /** Chance that a frame is lost. */
  readonly loss: number
  /** Frames with entries never arrive, as on a path that loses all large packets. */
  readonly blackHole: boolean
}

/** Sees everything that leaves and arrives. */
export interface WireWatch {
  onSend(from: ServerId, to: ServerId, message: Message): void
  onDeliver(from: ServerId, to: ServerId, messages: readonly Message[]): void
}

interface Link {
  readonly dice: Dice
  cloggedUntilMs: number
  lastArrivalMs: number
  queued: number
}

interface Frame {
  readonly from: ServerId
  readonly to: ServerId
  readonly frame: Uint8Array
}

/** Time after which a broken stream is noticed, in mean delays. */
const STREAM_TIMEOUT_DELAYS = 20

/** All links. */
export class SimNetwork {
  readonly #loop: EventLoop
  readonly #seed: number
  readonly #watch: WireWatch
  readonly #stations = new Map<ServerId, Station>()
  readonly #links = new Map<string, Link>()
  #storm: Storm | undefined
  #isBlocked: (from: ServerId, to: ServerId) => boolean = () => false
  manners: NetworkManners

  constructor(
    parts: { readonly loop: EventLoop; readonly watch: WireWatch },
    seed: number,
    manners: NetworkManners,
  ) {
    this.#loop = parts.loop
    this.#watch = parts.watch
    this.#seed = seed
    this.manners = manners
  }

  attach(station: Station): void {
    this.#stations.set(station.id, station)
  }

  detach(host: Host): void {
    for (const [id, station] of this.#stations) {
      if (station.host === host) this.#stations.delete(id)
    }
  }

  /** From now on nothing passes where `rule` says so. */
  block(rule: (from: ServerId, to: ServerId) => boolean): void {
    this.#isBlocked = rule
  }

  /** Everything that is sent on a link waits there until then. */
  clog(from: ServerId, to: ServerId, untilMs: number): void {
    this.#link(from, to).cloggedUntilMs = untilMs
  }

  /** From now on there is this weather. */
  weather(storm: Storm | undefined): void {
    this.#storm = storm
  }

  unclog(): void {
    for (const link of this.#links.values()) link.cloggedUntilMs = 0
  }

  /** The process of `id` has ended; others may see its connections close. */
  announceEnd(id: ServerId): void {
    for (const station of this.#stations.values()) {
      if (station.id === id || this.#isBlocked(id, station.id)) continue
      const { dice } = this.#link(id, station.id)
      if (!dice.chance(this.manners.closeNotice)) continue
      this.#loop.after(this.#delayMs(dice), 'network', {
        host: station.host,
        run: () => station.handler.onUnreachable(id, 'closed'),
      })
    }
  }

  /** The connection between two nodes breaks; both live on. */
  reset(a: ServerId, b: ServerId): void {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const station = this.#stations.get(to)
      if (station === undefined) continue
      const run = (): void => station.handler.onUnreachable(from, 'closed')
      this.#loop.after(0, 'network', { host: station.host, run })
    }
  }

  send(from: ServerId, to: ServerId, messages: readonly Message[]): void {
    for (const message of messages) this.#watch.onSend(from, to, message)
    const link = this.#link(from, to)
    const { dice } = link
    const { loss, duplication, capacity } = this.manners
    if (dice.chance(loss) || link.queued >= capacity || this.#isBlocked(from, to)) return
    const frame = encodeMessages(messages)
    if (this.#isBlownAway(dice, to, messages)) return
    const copies = dice.chance(duplication) ? 2 : 1
    for (let copy = 0; copy < copies; copy += 1) this.#carry(link, { from, to, frame })
    const { straggling = 0, stragglesMs = 0 } = this.manners
    if (!dice.chance(straggling)) return
    this.#loop.after(dice.between(0, stragglesMs), 'network', {
      run: () => this.#arrive({ from, to, frame }),
    })
  }

  #isBlownAway(dice: Dice, to: ServerId, messages: readonly Message[]): boolean {
    if (this.#storm?.hits(to) !== true) return false
    const { loss, blackHole } = this.#storm
    return (blackHole && messages.some(hasEntries)) || dice.chance(loss)
  }

  /** Streams a snapshot; both ends see it break. */
  sendSnapshot(
    from: Station,
    to: ServerId,
    content: { readonly transfer: SnapshotTransfer; readonly signal: AbortSignal },
  ): Promise<void> {
    this.#watch.onSend(from.id, to, content.transfer.message)
    return streamSnapshot(this.#loop, content, {
      from,
      to: this.#stations.get(to),
      isBlocked: () => this.#isBlocked(from.id, to) || this.#isBlocked(to, from.id),
      breaks: () => this.#link(from.id, to).dice.chance(this.manners.loss / 2),
      repeats: () => this.#link(from.id, to).dice.chance(this.manners.duplication),
      delayMs: () => this.#delayMs(this.#link(from.id, to).dice),
      timeoutMs: STREAM_TIMEOUT_DELAYS * this.manners.meanDelayMs + 1,
      stragglesMs: this.manners.stragglesMs ?? 0,
    })
  }

  #carry(link: Link, frame: Frame): void {
    let arrivalMs = this.#loop.nowMs + this.#delayMs(link.dice)
    arrivalMs = Math.max(arrivalMs, link.cloggedUntilMs)
    if (!this.manners.reorders) arrivalMs = Math.max(arrivalMs, link.lastArrivalMs)
    link.lastArrivalMs = Math.max(link.lastArrivalMs, arrivalMs)
    link.queued += 1
    this.#loop.after(arrivalMs - this.#loop.nowMs, 'network', {
      run: () => {
        link.queued -= 1
        this.#arrive(frame)
      },
    })
  }

  #arrive(frame: Frame): void {
    const station = this.#stations.get(frame.to)
    if (station !== undefined && !this.#isBlocked(frame.from, frame.to)) this.#hand(station, frame)
  }

  /** A frame reaches the process when that has time for it. */
  #hand(station: Station, arrived: Frame): void {
    const { host, handler } = station
    if (host.busyUntilMs > this.#loop.nowMs) {
      this.#loop.after(0, 'network', { host, run: () => this.#hand(station, arrived) })
      return
    }
    this.#loop.touched = host
    const messages = decodeMessages(arrived.frame)
    this.#watch.onDeliver(arrived.from, arrived.to, messages)
    for (const message of messages) handler.onMessage(arrived.from, message)
  }

  #delayMs(dice: Dice): number {
    return this.manners.minDelayMs + dice.exponential(this.manners.meanDelayMs)
  }

  #link(from: ServerId, to: ServerId): Link {
    const name = `${from}>${to}`
    const known = this.#links.get(name)
    if (known !== undefined) return known
    const dice = new Dice(this.#seed, name)
    const link = { dice, cloggedUntilMs: 0, lastArrivalMs: 0, queued: 0 }
    this.#links.set(name, link)
    return link
  }
}

function hasEntries(message: Message): boolean {
  return message.type === 'app' && message.entries.length > 0
}
