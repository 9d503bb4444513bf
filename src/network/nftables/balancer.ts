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
 * near it, and the wish survives errors.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { assert } from '../../base/assert.ts'
import type { Clock, Timer } from '../../base/clock.ts'
import { SwarmError, errorText, isSwarmError } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { Native } from '../netlink/native.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import type { AddressFamily, BalancerFault, LoadBalancer, VirtualServer } from '../ports.ts'
import { changeOf } from './difference.ts'
import type { Change, Dropped } from './difference.ts'
import { forgetFlows } from './flows.ts'
import { KernelTable } from './kernel-table.ts'
import type { Placements, ReadPlacement, TablePlace } from './kernel-table.ts'
import { DRAINING_SLOTS, compileServer, frontendFamily } from './placement.ts'
import { frontendText, isSameServer, targetText } from './placement.ts'
import type { Compiled } from './placement.ts'

/** How often the kernel's table is compared with what it should be, milliseconds. */
export const VERIFY_INTERVAL_MS = 60_000
/** Servers that are looked at before other work has its turn. */
const SLICE = 50

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
  /** What each server came to, by id. */
  #compiled = new Map<string, Compiled>()
  /** What was wanted last; undefined before the first `apply`: nothing is changed then. */
  #wanted: Placements | undefined
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
    this.#tables = {
      ipv4: new KernelTable(socket, options, 'ipv4'),
      ipv6: new KernelTable(socket, options, 'ipv6'),
    }
    this.reason = options.reason ?? 'this kernel has no IPVS'
  }

  /** @throws NetlinkError, and what `open` throws, when the table as a whole cannot be changed */
  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.#inTurn(async () => {
      const faults = await this.#compile(wanted)
      faults.push(...(await this.#ensureIpv6()))
      await this.#makeSo()
      return faults
    })
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

  /** Brings `#compiled` and `#wanted` to `servers`; what did not change is taken as it is. */
  async #compile(servers: readonly VirtualServer[]): Promise<BalancerFault[]> {
    const compiled = new Map<string, Compiled>()
    const wanted: Placements = new Map()
    const owners = new Map<string, string>()
    const faults: BalancerFault[] = []
    for (const [index, server] of servers.entries()) {
      if (index % SLICE === SLICE - 1) await nextTurn()
      const { id } = server
      assert(!compiled.has(id), 'a virtual server is listed twice')
      const before = this.#compiled.get(id)
      const same = before !== undefined && isSameServer(before.server, server)
      const one = same ? before : compileServer(server)
      compiled.set(id, one)
      if (one.fault !== undefined) faults.push({ id, message: one.fault })
      if (one.placement === undefined) continue
      const first = owners.get(one.owner)
      if (first === undefined) wanted.set(one.owner, one.placement)
      else faults.push({ id, message: `${one.owner}: is taken by ${first}` })
      owners.set(one.owner, first ?? id)
    }
    this.#compiled = compiled
    this.#wanted = wanted
    return faults
  }

  /** Makes the table of IPv6 when it is wanted; where that cannot be, what is in it is a fault. */
  async #ensureIpv6(): Promise<BalancerFault[]> {
    if (this.#hasIpv6) return []
    const servers = [...this.#compiled.values()].filter(
      ({ placement }) => placement !== undefined && frontendFamily(placement.frontend) === 'ipv6',
    )
    if (servers.length === 0) return []
    try {
      await this.#tables.ipv6.ensureRules()
      this.#hasIpv6 = true
      // It may be an earlier daemon's, with elements.
      this.#kernel = undefined
      return []
    } catch (error) {
      if (!isSwarmError(error)) throw error
      const message = `IPv6: ${errorText(error)}`
      for (const { owner } of servers) this.#wanted?.delete(owner)
      return servers.map(({ server }) => ({ id: server.id, message }))
    }
  }

  /** Makes the kernel's table as wanted; how many frontends changed. */
  async #makeSo(): Promise<number> {
    const { log } = this.#components
    if (this.#kernel !== undefined) {
      try {
        return await this.#step(this.#kernel)
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
    if (this.#wanted === undefined) return 0
    const found = new Map<string, ReadPlacement>()
    for (const table of tables) await table.readInto(found)
    return this.#step(found)
  }

  /** Goes from `kernel` to what is wanted. What the kernel has is unknown meanwhile. */
  async #step(kernel: Placements): Promise<number> {
    this.#kernel = undefined
    const wanted = this.#wanted ?? new Map()
    this.#keepReturned(wanted)
    const changes = await this.#changesOf(kernel, wanted)
    for (const [family, ones] of Map.groupBy(changes, (change) => change.family)) {
      await this.#tables[family].change(ones)
    }
    await this.#forget()
    this.#kernel = wanted
    return changes.length
  }

  /** What leads from `kernel` to `wanted`; whose connections must end is remembered. */
  async #changesOf(kernel: Placements, wanted: Placements): Promise<Change[]> {
    const changes: Change[] = []
    const texts = new Set([...kernel.keys(), ...wanted.keys()])
    for (const text of texts) {
      const change = changeOf(kernel.get(text), wanted.get(text))
      if (change === undefined) continue
      for (const one of change.dropped) this.#dropped.set(droppedText(one), one)
      if (changes.push(change) % SLICE === 0) await nextTurn()
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
  #keepReturned(wanted: Placements): void {
    for (const [text, { frontend, target, onlyDatagrams }] of this.#dropped) {
      const slots = wanted.get(frontendText(frontend))?.slots ?? []
      const isBack = [...slots].some(
        ([slot, other]) =>
          (!onlyDatagrams || slot < DRAINING_SLOTS) && targetText(other) === targetText(target),
      )
      if (isBack) this.#dropped.delete(text)
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
