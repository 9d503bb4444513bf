/**
 * The nftables driver of the load balancer port, for kernels without IPVS: DNAT by maps in a table
 * of its own (`skeleton.ts`), of which only elements change (`kernel-table.ts`); one in each
 * family, in IPv6 from the first server that wants it.
 *
 * Invariants: one change at a time. The kernel's table is known, or it is read before anything is
 * written: at start, every minute, and after any error, because an exchange that failed may have
 * been executed. The table stays when the driver is closed, so that a restart of the daemon costs
 * no connection; what was wanted before is taken over from the table itself. Foreign tables are
 * never touched. Connections to a backend that is gone are forgotten after the table leads nowhere
 * near it, and the wish survives errors. So are those that a lost backend never answered.
 */
import { assert } from '../../base/assert.ts'
import type { Clock, Timer } from '../../base/clock.ts'
import { SwarmError, errorText, isSwarmError } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { Native } from '../netlink/native.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { readSysctl } from '../netlink/sysctl.ts'
import type {
  AddressFamily,
  BalancerFault,
  LoadBalancer,
  ServerChange,
  VirtualServer,
} from '../ports.ts'
import { changeTo } from '../server-change.ts'
import { TimeSlices } from '../time-slices.ts'
import { changeOf, stillDropped } from './difference.ts'
import type { Change, Dropped } from './difference.ts'
import { forgetFlows } from './flows.ts'
import { KernelTable } from './kernel-table.ts'
import type { Placements, ReadPlacement, TablePlace } from './kernel-table.ts'
import { frontendText, targetText } from './placement.ts'
import type { Placement } from './placement.ts'
import { WantedFrontends } from './wanted-frontends.ts'

/** How often the kernel's table is compared with what it should be, milliseconds. */
export const VERIFY_INTERVAL_MS = 60_000

/** Is there where the kernel tracks SCTP. */
const SCTP_SETTING = 'net/netfilter/nf_conntrack_sctp_timeout_established'

/** What the driver needs. */
export interface NftablesComponents {
  readonly native: Native
  readonly clock: Clock
  readonly log: Logger
}

/** Options of {@link NftablesBalancer.open}. */
export interface NftablesOptions extends TablePlace {
  /** Why this driver was chosen, for `info`. */
  readonly reason?: string
}

/** Spreads connections in the kernel, without IPVS. */
export class NftablesBalancer implements LoadBalancer {
  readonly name = 'nftables'
  readonly hasVirtualAddresses = true
  readonly reason: string
  readonly #components: NftablesComponents
  readonly #socket: NetlinkSocket
  readonly #tables: Readonly<Record<AddressFamily, KernelTable>>
  /** Whether there is a table of IPv6. */
  #hasIpv6 = false
  /** Whether the kernel tracks SCTP: without, its ports cannot be changed. */
  #hasSctp = false
  readonly #slices: TimeSlices
  readonly #wanted: WantedFrontends
  /** Whether anything was wanted yet: before, nothing is changed. */
  #hasWanted = false
  /** Texts of frontends that changed since the kernel had what is wanted. */
  readonly #due = new Set<string>()
  /** What the kernel has, if it is known. */
  #kernel: Placements | undefined
  /** Backends whose connections are still to be forgotten, by text. */
  readonly #dropped = new Map<string, Dropped>()
  /** Settles when the change before the next one has ended. Never rejects. */
  #turn: Promise<unknown> = Promise.resolve()
  #timer: Timer | undefined
  #isClosed = false

  /**
   * Makes the table, or takes over the one that is there. @throws UNAVAILABLE without `nft`,
   * RUNTIME_FAILED when the kernel lacks what the rules need, NetlinkError
   */
  static async open(
    components: NftablesComponents,
    options: NftablesOptions,
  ): Promise<NftablesBalancer> {
    assert(/^[a-z_][a-z0-9_]*$/.test(options.table), `nft table "${options.table}"`)
    const place = options.netns === undefined ? {} : { netns: options.netns }
    const socket = await NetlinkSocket.open(components.native, { protocol: 'netfilter', ...place })
    const balancer = new NftablesBalancer(components, socket, options)
    try {
      await balancer.#tables.ipv4.ensureRules()
      balancer.#hasSctp = await tracksSctp(components.native, place)
    } catch (error) {
      socket.close()
      throw error
    }
    balancer.#scheduleVerify()
    return balancer
  }

  private constructor(
    components: NftablesComponents,
    socket: NetlinkSocket,
    options: NftablesOptions,
  ) {
    this.#components = components
    this.#socket = socket
    this.#slices = new TimeSlices(components.clock)
    const parts = { socket, slices: this.#slices }
    this.#tables = {
      ipv4: new KernelTable(parts, options, 'ipv4'),
      ipv6: new KernelTable(parts, options, 'ipv6'),
    }
    this.#wanted = new WantedFrontends(this.#slices, { hasSctp: () => this.#hasSctp })
    this.reason = options.reason ?? 'this kernel has no IPVS'
  }

  /** @throws NetlinkError, and what `open` throws, when the table as a whole cannot be changed */
  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.#inTurn(() => this.#change(changeTo(this.#wanted.servers, wanted)))
  }

  /** @throws as `apply` */
  change(change: ServerChange): Promise<readonly BalancerFault[]> {
    return this.#inTurn(() => this.#change(change))
  }

  /** Reads the kernel's table and repairs it; how many frontends were not as wanted. */
  verify(): Promise<number> {
    return this.#inTurn(() => {
      this.#kernel = undefined
      return this.#makeSo()
    })
  }

  /** Stops; the table stays and connections go on. Again does nothing. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#timer?.cancel()
    await this.#turn
    this.#socket.close()
  }

  /** Removes the table and closes. Connections end as their programs do. */
  async remove(): Promise<void> {
    await this.#inTurn(async () => {
      for (const table of Object.values(this.#tables)) await table.remove()
    })
    await this.close()
  }

  async #change(change: ServerChange): Promise<readonly BalancerFault[]> {
    for (const text of await this.#wanted.change(change)) this.#due.add(text)
    this.#hasWanted = true
    const faults = await this.#ensureIpv6()
    await this.#makeSo()
    return [...this.#wanted.faults(), ...faults]
  }

  /** Makes the table of IPv6 when it is wanted; where that cannot be, what is in it is a fault. */
  async #ensureIpv6(): Promise<BalancerFault[]> {
    if (this.#hasIpv6 || this.#wanted.ipv6.size === 0) return []
    try {
      await this.#tables.ipv6.ensureRules()
      this.#hasIpv6 = true
      // It may be an earlier daemon's, with elements.
      this.#kernel = undefined
      return []
    } catch (error) {
      if (!isSwarmError(error)) throw error
      const message = `IPv6: ${errorText(error)}`
      return [...this.#wanted.ipv6.values()].map((id) => ({ id, message }))
    }
  }

  /** What a frontend should have; nothing where the kernel has no table for it. */
  #placementOf(text: string): Placement | undefined {
    const isPossible = this.#hasIpv6 || !this.#wanted.ipv6.has(text)
    return isPossible ? this.#wanted.placements.get(text) : undefined
  }

  /** Makes the kernel's table as wanted; how many frontends changed. */
  async #makeSo(): Promise<number> {
    const { log } = this.#components
    if (this.#kernel !== undefined) {
      try {
        return await this.#step(this.#kernel, this.#due)
      } catch (error) {
        if (!isSwarmError(error)) throw error
        log.warn({ err: error }, 'nft table is read again after an error')
      }
    }
    return this.#resynchronise()
  }

  /** Compares with the kernel's own table, and makes it as wanted. */
  async #resynchronise(): Promise<number> {
    const { ipv4, ipv6 } = this.#tables
    this.#hasIpv6 ||= await ipv6.exists()
    const tables = this.#hasIpv6 ? [ipv4, ipv6] : [ipv4]
    for (const table of tables) {
      if (await table.ensureRules()) this.#components.log.info({}, 'nft table was made')
    }
    if (!this.#hasWanted) return 0
    const found = new Map<string, ReadPlacement>()
    for (const table of tables) await table.readInto(found)
    return this.#step(found, new Set([...found.keys(), ...this.#wanted.placements.keys()]))
  }

  /**
   * Goes from `kernel` to what is wanted of the frontends `texts`. What the kernel has is unknown
   * meanwhile.
   */
  async #step(kernel: Placements, texts: ReadonlySet<string>): Promise<number> {
    this.#kernel = undefined
    this.#keepReturned()
    const changes = await this.#changesOf(kernel, texts)
    const written = changes.filter(({ gone, fresh }) => gone.length + fresh.length > 0)
    for (const [family, ones] of Map.groupBy(written, (change) => change.family)) {
      await this.#tables[family].change(ones)
    }
    await this.#forget()
    for (const text of texts) {
      const wanted = this.#placementOf(text)
      if (wanted === undefined) kernel.delete(text)
      else kernel.set(text, wanted)
    }
    this.#due.clear()
    this.#kernel = kernel
    return written.length
  }

  /** What leads to what is wanted; whose connections must end is remembered. */
  async #changesOf(kernel: Placements, texts: ReadonlySet<string>): Promise<Change[]> {
    const changes: Change[] = []
    for (const text of texts) {
      await this.#slices.maybeYield()
      const change = changeOf(kernel.get(text), this.#placementOf(text))
      if (change === undefined) continue
      for (const one of change.dropped) this.#dropped.set(droppedText(one), one)
      changes.push(change)
    }
    return changes
  }

  /** Ends the connections of dropped backends. */
  async #forget(): Promise<void> {
    if (this.#dropped.size === 0) return
    await forgetFlows(this.#socket, [...this.#dropped.values()])
    this.#dropped.clear()
  }

  /** Backends that an attempt before this one dropped may be wanted again. */
  #keepReturned(): void {
    for (const [text, one] of this.#dropped) {
      const left = stillDropped(one, this.#placementOf(frontendText(one.frontend)))
      if (left === undefined) this.#dropped.delete(text)
      else this.#dropped.set(text, left)
    }
  }

  #scheduleVerify(): void {
    if (this.#isClosed) return
    this.#timer = this.#components.clock.after(VERIFY_INTERVAL_MS, () => {
      void this.#verifyByTimer().finally(() => this.#scheduleVerify())
    })
  }

  async #verifyByTimer(): Promise<void> {
    const { log } = this.#components
    try {
      const repaired = await this.verify()
      if (repaired > 0) log.warn({ repaired }, 'nft table was not as wanted')
    } catch (error) {
      if (this.#isClosed) return
      // The next comparison, or the next `apply`, tries again.
      log.warn({ err: errorText(error) }, 'nft table cannot be compared')
    }
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    if (this.#isClosed) {
      return Promise.reject(new SwarmError('SHUTTING_DOWN', 'load balancer: is closed'))
    }
    const result = this.#turn.then(task)
    this.#turn = result.catch(() => {})
    return result
  }
}

function droppedText({ frontend, target }: Dropped): string {
  return `${frontendText(frontend)} ${targetText(target)}`
}

async function tracksSctp(native: Native, place: { readonly netns?: string }): Promise<boolean> {
  try {
    await readSysctl(native, { name: SCTP_SETTING, ...place })
    return true
  } catch (error) {
    if (isNetlinkError(error, 'ENOENT')) return false
    throw error
  }
}
