/**
 * The IPVS driver of the load balancer port. A server is an IPVS service by firewall mark
 * (`placement.ts`); `PacketMarks` gives packets the mark.
 *
 * - The kernel's table is read at the first `apply`, so connections live through a restart, and
 *   what an earlier run left behind is found. From then on the driver believes its own model and
 *   sends differences alone. It reads again every minute and after every error: an error, ENOBUFS
 *   above all, says nothing about what was done.
 * - Ours are services whose mark is of a published port, of an address in `virtualRanges`, or
 *   wanted. All others are never touched.
 * - A mark is taken away before its service goes, and given when its service stands: a packet with
 *   a mark finds a service. A published port whose service has a fault gets no mark, so the
 *   userspace balancer has it.
 * - One thing at a time: `apply`, checks, statistics wait for each other.
 */
import { release } from 'node:os'
import { SwarmError, isSwarmError } from '../../base/errors.ts'
import type { Clock, Timer } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import { parsePrefix } from '../netlink/address.ts'
import { HostSettings } from '../host-settings.ts'
import type { Native } from '../netlink/native.ts'
import type { ServiceKey } from '../netlink/ipvs.ts'
import { serviceText } from '../netlink/ipvs.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import type { Dropped } from '../nftables/difference.ts'
import { forgetFlows } from '../nftables/flows.ts'
import type { BalancerFault, LoadBalancer, ServerChange, VirtualServer } from '../ports.ts'
import type { Scheduler } from '../ports.ts'
import { changeTo } from '../server-change.ts'
import { nativeSettings } from '../setting-access.ts'
import { TimeSlices } from '../time-slices.ts'
import { GivenMarks } from './given-marks.ts'
import { KernelTable } from './kernel-table.ts'
import { setNamespaceSettings } from './namespace-settings.ts'
import type { PacketMarks } from './packet-marks.ts'
import { addressNumber, isPublishedMark, otherFamily } from './placement.ts'
import { TableKeeper } from './table-keeper.ts'
import type { Refusals } from './table-keeper.ts'
import { serverStatistics } from './statistics.ts'
import type { ServerStatistics } from './statistics.ts'
import { WantedPlacements } from './wanted-placements.ts'

/** Milliseconds between two looks at the whole table. */
export const CHECK_INTERVAL_MS = 60_000

/** Where virtual addresses come from when nothing else is said: all ranges for private use. */
export const PRIVATE_RANGES: readonly string[] = [
  '10.0.0.0/8',
  '100.64.0.0/10',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '198.18.0.0/15',
]

/** What the driver needs. */
export interface IpvsComponents {
  readonly native: Native
  readonly clock: Clock
  readonly log: Logger
  readonly marks: PacketMarks
}

/** Options of {@link IpvsBalancer.open}. */
export interface IpvsOptions {
  /** Path of the network namespace; without one this process's. */
  readonly netns?: string
  /** Schedulers that the kernel has not, as `missingSchedulers` found: others stand in. */
  readonly missingSchedulers?: readonly Scheduler[]
  /** Settings of the same namespace, and their record; without it they are not put back. */
  readonly settings?: HostSettings
  /** Addresses whose services by mark are ours, also before anything is wanted. */
  readonly virtualRanges?: readonly string[]
  /** Why this driver was chosen, for `info`. */
  readonly reason?: string
  /** Default {@link CHECK_INTERVAL_MS}. */
  readonly checkIntervalMs?: number
}

/** Spreads connections in the kernel. */
export class IpvsBalancer implements LoadBalancer {
  readonly name = 'ipvs'
  readonly hasVirtualAddresses = true
  readonly reason: string
  readonly #components: IpvsComponents
  readonly #keeper: TableKeeper
  readonly #wanted: WantedPlacements
  readonly #checkIntervalMs: number
  /** Settles when what was begun before has ended; never rejects. */
  #turn: Promise<unknown> = Promise.resolve()
  #timer: Timer | undefined
  #isClosed = false
  /** Why servers are not as wanted, by server id. */
  #refused: Refusals = new Map()
  readonly #marks: GivenMarks
  /** Socket to connection tracking. */
  readonly #tracking: NetlinkSocket
  /** Flows to forget. */
  readonly #dropped: Dropped[] = []
  /** Whether `apply` was called: before, what is there is what an earlier run wanted. */
  #hasWanted = false

  /** Opens the kernel's table and sets the namespace's settings. @throws NetlinkError */
  static async open(components: IpvsComponents, options: IpvsOptions = {}): Promise<IpvsBalancer> {
    const { native, clock, log } = components
    const where = options.netns === undefined ? {} : { netns: options.netns }
    const slices = new TimeSlices(clock)
    const table = await KernelTable.open({ native, slices }, where)
    try {
      const { settings = new HostSettings(nativeSettings(native, options.netns)) } = options
      const missing = await setNamespaceSettings(settings, { release: release() })
      if (missing.length > 0) log.warn({ settings: missing }, 'ipvs lacks settings')
      const wanted = new WantedPlacements(slices, options.missingSchedulers)
      const tracking = await NetlinkSocket.open(native, { protocol: 'netfilter', ...where })
      return new IpvsBalancer(components, { table, wanted, slices, tracking }, options)
    } catch (error) {
      table.close()
      throw error
    }
  }

  private constructor(
    components: IpvsComponents,
    parts: {
      readonly table: KernelTable
      readonly wanted: WantedPlacements
      readonly slices: TimeSlices
      readonly tracking: NetlinkSocket
    },
    options: IpvsOptions,
  ) {
    const { reason, checkIntervalMs, virtualRanges = PRIVATE_RANGES } = options
    this.#components = components
    this.#wanted = parts.wanted
    this.#tracking = parts.tracking
    this.#checkIntervalMs = checkIntervalMs ?? CHECK_INTERVAL_MS
    this.reason = reason ?? 'the kernel has IPVS'
    const isOurRange = markRanges(virtualRanges)
    const isWanted = (key: ServiceKey): boolean =>
      this.#wanted.service(serviceText(key)) !== undefined
    const isOurs = (key: ServiceKey): boolean =>
      key.type === 'mark' && (isOurRange(key.mark) || isWanted(key))
    this.#keeper = new TableKeeper({ ...parts, isOurs })
    const isRefused = (id: string): boolean => this.#refused.has(id)
    this.#marks = new GivenMarks({ marks: components.marks, wanted: parts.wanted, isRefused })
    this.#startTimer()
  }

  /** @throws SHUTTING_DOWN after `close` */
  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.#inTurn(() => this.#change(changeTo(this.#wanted.servers, wanted)))
  }

  /** @throws SHUTTING_DOWN after `close` */
  change(change: ServerChange): Promise<readonly BalancerFault[]> {
    return this.#inTurn(() => this.#change(change))
  }

  /** Counters of the servers and their backends, as the kernel has them. @throws NetlinkError */
  statistics(): Promise<readonly ServerStatistics[]> {
    return this.#inTurn(async () => {
      const statistics: ServerStatistics[] = []
      for await (const listed of this.#keeper.list()) {
        const found = serverStatistics(listed, this.#wanted)
        if (found !== undefined) statistics.push(found)
      }
      return statistics
    })
  }

  /**
   * Looks at the kernel's table now, and repairs it. Before the first `apply` nothing is known to
   * be wrong. @throws SwarmError
   */
  check(): Promise<void> {
    return this.#inTurn(async () => {
      if (!this.#hasWanted) return
      const { repaired, refused } = await this.#keeper.check()
      this.#refuse(refused)
      await this.#marks.give()
      const areMarksRepaired = await this.#components.marks.check()
      if (repaired === 0 && !areMarksRepaired) return
      this.#components.log.warn({ operations: repaired, areMarksRepaired }, 'ipvs table repaired')
    })
  }

  /** Takes everything of ours out of the kernel. Then close. @throws SwarmError */
  async remove(): Promise<void> {
    await this.apply([])
    await this.#inTurn(() => this.#components.marks.remove())
  }

  /** The kernel goes on balancing. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#timer?.cancel()
    await this.#turn
    this.#components.marks.close()
    this.#tracking.close()
    await this.#keeper.close()
  }

  async #change(change: ServerChange): Promise<readonly BalancerFault[]> {
    const { services, marks, dropped } = await this.#wanted.change(change)
    this.#dropped.push(...dropped)
    this.#hasWanted = true
    this.#keeper.note(services)
    this.#marks.note(marks)
    await this.#marks.withdraw()
    this.#refuse((await this.#keeper.bring()).refused)
    await this.#marks.give()
    await this.#forgetFlows()
    const refused = [...this.#refused].map(([id, message]) => ({ id, message }))
    return [...this.#wanted.faults(), ...refused]
  }

  /** Lets flows of datagrams move away from what is gone; else they do when they expire. */
  async #forgetFlows(): Promise<void> {
    const dropped = this.#dropped.splice(0)
    if (dropped.length === 0) return
    try {
      await forgetFlows(this.#tracking, dropped)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.#components.log.warn({ err: error }, 'tracked flows cannot be forgotten')
    }
  }

  #refuse(refused: Refusals): void {
    const ids = new Set(refused.keys()).symmetricDifference(new Set(this.#refused.keys()))
    this.#refused = refused
    this.#marks.note([...ids].flatMap((id) => this.#wanted.markOf(id) ?? []))
  }

  /** Checks now and then until closed; a check that fails is logged, and the next one comes. */
  #startTimer(): void {
    const { clock, log } = this.#components
    this.#timer = clock.after(this.#checkIntervalMs, () => {
      this.check()
        .catch((error: unknown) => {
          if (!isSwarmError(error)) throw error
          if (!this.#isClosed) log.warn({ err: error }, 'ipvs table cannot be checked')
        })
        .finally(() => {
          if (!this.#isClosed) this.#startTimer()
        })
    })
  }

  /** Runs `task` when those before it have ended. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      if (this.#isClosed) throw new SwarmError('SHUTTING_DOWN', 'load balancer: is closed')
      return task()
    })
    this.#turn = result.catch(() => undefined)
    return result
  }
}

/** Whether a mark is a published port's or an address of the ranges, as a number. */
function markRanges(ranges: readonly string[]): (mark: number) => boolean {
  const bounds = ranges.map((range) => {
    const { address, bits } = parsePrefix(range)
    const first = addressNumber(address)
    return { first, last: first + 2 ** (32 - bits) - 1 }
  })
  const isInside = (mark: number): boolean =>
    bounds.some(({ first, last }) => mark >= first && mark <= last)
  return (mark) => isPublishedMark(mark) || isInside(mark) || isInside(otherFamily(mark))
}
