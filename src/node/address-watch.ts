/**
 * Tells when the addresses by which this host speaks to others are not what they were, so that
 * other nodes hear of a new one at once and not when this node looks again (`self-report.ts`).
 *
 * Events of rtnetlink only say when to look: addresses are read whole, so lost events (ENOBUFS) and
 * those of containers' interfaces cost a look and nothing else. Events within {@link COALESCE_MS}
 * share one. Each change is a write of the cluster: an address that comes and goes all the time is
 * told {@link CHANGES_MAX} times in {@link WINDOW_MS}, and then as it is when the time is over.
 * Without the addon nothing is told.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import { NetlinkMonitor } from '../network/netlink/monitor.ts'
import type { Native, NativeLoad } from '../network/netlink/native.ts'
import { isNetlinkError } from '../network/netlink/netlink-error.ts'
import { RTNLGRP } from '../network/netlink/route-layout.ts'

/** From an event to the look: an interface that comes up brings several. */
export const COALESCE_MS = 200

/** Changes that are told at once within {@link WINDOW_MS}. */
export const CHANGES_MAX = 4

/** Milliseconds over which changes are counted. */
export const WINDOW_MS = 60_000

/** A cable that is pulled takes its interface's addresses out of use without an event of theirs. */
const GROUPS = [RTNLGRP.link, RTNLGRP.ipv4Address, RTNLGRP.ipv6Address]

/** What the watch needs. */
export interface AddressWatchComponents {
  readonly clock: Clock
  readonly log: Logger
  /** The addresses as they are now, in an order that depends on nothing else. */
  readonly read: () => readonly string[]
}

/** Watches the host. Close it, or use `using`. */
export class AddressWatch implements Disposable {
  readonly #components: AddressWatchComponents
  readonly #listeners = new Set<() => void>()
  #monitor: NetlinkMonitor | undefined
  /** As told last. */
  #known: string
  /** Monotonic times of what was told last, oldest first; at most {@link CHANGES_MAX}. */
  readonly #toldMs: number[] = []
  /** Until the next look. */
  #timer: Timer | undefined

  constructor(components: AddressWatchComponents) {
    this.#components = components
    this.#known = components.read().join(' ')
  }

  /**
   * Watches by netlink, in this process's namespace or another. Where that cannot be, nothing is
   * told, and the log says why.
   */
  static async open(
    components: AddressWatchComponents,
    load: NativeLoad,
    netns?: string,
  ): Promise<AddressWatch> {
    const watch = new AddressWatch(components)
    if (load.type === 'absent') return watch
    try {
      await watch.#subscribe(load.native, netns)
    } catch (error) {
      if (!isNetlinkError(error)) throw error
      components.log.warn({ err: errorText(error) }, 'changes of addresses are not told at once')
    }
    return watch
  }

  /** Calls `told` after each change, until the function that it gives is called. */
  onChange(told: () => void): () => void {
    this.#listeners.add(told)
    return () => this.#listeners.delete(told)
  }

  /** Something of an interface changed, or may have. */
  noteEvent(): void {
    this.#timer ??= this.#components.clock.after(COALESCE_MS, () => this.#look())
  }

  [Symbol.dispose](): void {
    this.#monitor?.close()
    this.#timer?.cancel()
    this.#listeners.clear()
  }

  async #subscribe(native: Native, netns?: string): Promise<void> {
    const { log } = this.#components
    const place = netns === undefined ? {} : { netns }
    const options = { protocol: 'route', groups: GROUPS, ...place } as const
    this.#monitor = await NetlinkMonitor.open(native, options, {
      onMessage: () => this.noteEvent(),
      onLost: (error) => {
        const isOver = error.errno !== 'ENOBUFS' && error.errno !== 'EMSGSIZE'
        if (isOver) log.warn({ err: errorText(error) }, 'changes of addresses are told no more')
        this.noteEvent()
      },
    })
    // What changed between the first reading and the subscription.
    this.noteEvent()
  }

  #look(): void {
    const { clock, read } = this.#components
    this.#timer = undefined
    const now = read().join(' ')
    if (now === this.#known) return
    const nowMs = clock.monotonicMs()
    const waitMs = this.#waitMs(nowMs)
    if (waitMs > 0) {
      this.#timer = clock.after(waitMs, () => this.#look())
      return
    }
    this.#known = now
    this.#toldMs.push(nowMs)
    for (const told of this.#listeners) told()
  }

  /** How long a change must wait; forgets those that count no more. */
  #waitMs(nowMs: number): number {
    const [oldest] = this.#toldMs
    if (oldest === undefined || this.#toldMs.length < CHANGES_MAX) return 0
    const leftMs = oldest + WINDOW_MS - nowMs
    if (leftMs <= 0) this.#toldMs.shift()
    return leftMs
  }
}
