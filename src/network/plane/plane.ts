/**
 * The data plane of this node: told the whole wanted plane, it makes the kernel so, by difference.
 *
 * Order: devices, settings, peers, firewall, and only behind it the routes that make virtual
 * addresses local, since without it every port of this host would answer on each of them. What
 * cannot be made is a text, never an exception: services still work, by userspace.
 *
 * Applications run one after another. What was applied and has not changed is not looked at again
 * until {@link Plane.forget}; after a fault everything is.
 */
import { isDeepStrictEqual } from 'node:util'
import { errorText, isSwarmError } from '../../base/errors.ts'
import { HostSettings } from '../host-settings.ts'
import type { Native } from '../netlink/native.ts'
import { decodeAddress, dumpAddresses } from '../netlink/route.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { nativeSettings } from '../setting-access.ts'
import { conflictsOf, withoutRanges } from './conflicts.ts'
import type { Conflict } from './conflicts.ts'
import {
  ensureAddresses,
  ensureDevices,
  findLink,
  foreignAddresses,
  removeDevices,
} from './devices.ts'
import type { PlaneDevices } from './devices.ts'
import { Firewall } from './firewall.ts'
import { hostFirewallFaults } from './host-firewall.ts'
import { planeNames } from './names.ts'
import type { TouchedMembers } from './plane-derivation.ts'
import type { PlaneFamily } from './plane-elements.ts'
import { PortGuard } from './port-guard.ts'
import { ensurePeers, ensureTaskNeighbours, ensureVirtualRanges, removeRoutes } from './routes.ts'
import { ensureSettings } from './settings.ts'
import type { PlaneTask, WantedPlane } from './wanted-plane.ts'

/** Whose plane, and where. */
export interface PlaneOptions {
  readonly nodeId: string
  /** Path of the network namespace; without one this process's. */
  readonly netns?: string
  /** Settings of the same namespace, and their record; without it they are not put back. */
  readonly settings?: HostSettings
  /** Whether the kernel can check what tasks send on their ports; default: it can. */
  readonly guardsPorts?: boolean
}

/** What an application did. */
export interface PlaneReport {
  /** Requests, settings and scripts that were needed; 0 = all was so. */
  readonly changes: number
  /** What could not be made, for people. */
  readonly faults: readonly string[]
}

/** What is on this host that is not the plane's, and in its way. */
interface HostFindings {
  /** Ranges of the cluster that this host is in already. */
  readonly takenRanges: readonly string[]
  /** These, and what its firewalls stop, for people. */
  readonly faults: readonly string[]
}

/** Makes the kernel as wanted. Close it, or use `await using`. */
export class Plane implements AsyncDisposable {
  readonly #settings: HostSettings
  readonly #options: PlaneOptions
  readonly #route: NetlinkSocket
  readonly #netfilter: NetlinkSocket
  readonly #firewalls: Readonly<Record<PlaneFamily, Firewall>>
  readonly #guard: PortGuard
  /** What was applied last of devices, settings and routes; undefined: look again. */
  #applied:
    | {
        readonly asked: WantedPlane
        readonly devices: PlaneDevices
        readonly host: HostFindings
      }
    | undefined
  /** Tasks whose MACs the bridge knows; undefined: look again. */
  #appliedTasks: readonly PlaneTask[] | undefined
  #mtu: number | undefined
  /** Settles when the work before the next one has ended. Never rejects. */
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(
    native: Native,
    options: PlaneOptions,
    sockets: { readonly route: NetlinkSocket; readonly netfilter: NetlinkSocket },
  ) {
    this.#settings = options.settings ?? new HostSettings(nativeSettings(native, options.netns))
    this.#options = options
    this.#route = sockets.route
    this.#netfilter = sockets.netfilter
    const names = planeNames(options.nodeId)
    const make = (family: PlaneFamily): Firewall =>
      new Firewall(sockets.netfilter, { names, family, ...netnsOf(options) })
    this.#firewalls = { ipv4: make('ipv4'), ipv6: make('ipv6') }
    this.#guard = new PortGuard(sockets.netfilter, { names, ...netnsOf(options) })
  }

  /** Opens the sockets; changes nothing. @throws NetlinkError */
  static async open(native: Native, options: PlaneOptions): Promise<Plane> {
    const place = netnsOf(options)
    const route = await NetlinkSocket.open(native, { protocol: 'route', ...place })
    try {
      const netfilter = await NetlinkSocket.open(native, { protocol: 'netfilter', ...place })
      return new Plane(native, options, { route, netfilter })
    } catch (error) {
      route.close()
      throw error
    }
  }

  /** MTU of tasks' devices; undefined until the devices were made. */
  get mtu(): number | undefined {
    return this.#mtu
  }

  /**
   * Makes `wanted` so. Never rejects for what the kernel refuses. With `touched` the caller says
   * that no other member of a network came or went since the call before.
   */
  apply(wanted: WantedPlane, touched?: TouchedMembers): Promise<PlaneReport> {
    return this.#inTurn(() => this.#apply(wanted, touched))
  }

  /** The next `apply` looks at everything again. */
  forget(): void {
    this.#applied = undefined
    this.#appliedTasks = undefined
    for (const firewall of [...Object.values(this.#firewalls), this.#guard]) firewall.forget()
  }

  /** Removes all that is this node's, also what an earlier daemon made; gives what stayed. */
  remove(): Promise<readonly string[]> {
    return this.#inTurn(() => this.#remove())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#turn
    await Promise.all([this.#route, this.#netfilter].map((one) => one[Symbol.asyncDispose]()))
  }

  async #apply(asked: WantedPlane, touched?: TouchedMembers): Promise<PlaneReport> {
    const work = new Work()
    const applied = this.#applied
    const known = applied !== undefined && isSameBase(applied.asked, asked) ? applied : undefined
    this.#applied = undefined
    const host = known?.host ?? (await this.#examineHost(asked, work))
    const wanted = withoutRanges(asked, host.takenRanges)
    const devices = wanted && (known?.devices ?? (await this.#ensureBase(wanted, work)))
    if (wanted !== undefined && devices !== undefined) {
      const isGuarded = await this.#ensureFirewalls(wanted, touched, work)
      await this.#ensureTasks(wanted, devices, work)
      if (known === undefined && isGuarded) {
        await work.do('virtual addresses', async () => {
          work.add(await ensureVirtualRanges(this.#route, wanted))
        })
      }
    }
    if (work.faults.length > 0 || devices === undefined) this.forget()
    else this.#applied = { asked, devices, host }
    return { changes: work.changes, faults: [...work.faults, ...host.faults] }
  }

  /** What is on this host besides the plane. */
  async #examineHost(wanted: WantedPlane, work: Work): Promise<HostFindings> {
    let conflicts: readonly Conflict[] = []
    let stopped: readonly string[] = []
    await work.do('addresses of this host', async () => {
      conflicts = conflictsOf(wanted, await foreignAddresses(this.#route, wanted.nodeId))
    })
    const { bridge } = planeNames(this.#options.nodeId)
    const hasIpv6 = wanted.ipv6Prefix !== undefined
    await work.do('firewall of the host', async () => {
      const options = { bridge, hasIpv6, ...netnsOf(this.#options) }
      stopped = await hostFirewallFaults(this.#netfilter, options)
    })
    const faults = [...conflicts.map(({ fault }) => fault), ...stopped]
    return { takenRanges: conflicts.map(({ range }) => range), faults }
  }

  async #ensureBase(wanted: WantedPlane, work: Work): Promise<PlaneDevices | undefined> {
    let devices: PlaneDevices | undefined
    await work.do('devices', async () => {
      devices = await ensureDevices(this.#route, wanted)
      this.#mtu = devices.mtu
      work.changes += devices.changes
    })
    if (devices === undefined) return undefined
    const made = devices
    const { bridge, vxlan } = made
    await work.do('settings', async () => {
      work.changes += await ensureSettings(this.#settings, {
        bridge: bridge.name,
        vxlan: vxlan?.name,
        hasIpv6: wanted.ipv6Prefix !== undefined,
      })
    })
    await work.do('addresses', async () => {
      work.changes += await ensureAddresses(this.#route, wanted, made)
    })
    await work.do('routes', async () => {
      work.add(await ensurePeers(this.#route, wanted, made))
    })
    return made
  }

  async #ensureTasks(wanted: WantedPlane, devices: PlaneDevices, work: Work): Promise<void> {
    const { tasks } = wanted
    if (tasks === this.#appliedTasks || isDeepStrictEqual(tasks, this.#appliedTasks)) return
    this.#appliedTasks = undefined
    const isDone = await work.do('tasks', async () => {
      work.add(await ensureTaskNeighbours(this.#route, wanted, devices.bridge))
    })
    if (isDone) this.#appliedTasks = tasks
  }

  /** Whether the cluster's addresses are guarded now. */
  async #ensureFirewalls(
    wanted: WantedPlane,
    touched: TouchedMembers | undefined,
    work: Work,
  ): Promise<boolean> {
    if (this.#options.guardsPorts !== false) {
      await work.do('guard of tasks', async () => {
        work.changes += await this.#guard.apply(wanted)
      })
    }
    const families: PlaneFamily[] = wanted.ipv6Prefix === undefined ? ['ipv4'] : ['ipv4', 'ipv6']
    // It would not hear of what is touched meanwhile.
    if (wanted.ipv6Prefix === undefined) this.#firewalls.ipv6.forget()
    for (const family of families) {
      const isDone = await work.do(`firewall (${family})`, async () => {
        work.changes += await this.#firewalls[family].apply(wanted, touched)
      })
      if (!isDone) return false
    }
    return true
  }

  async #remove(): Promise<readonly string[]> {
    this.forget()
    const work = new Work()
    const { bridge, vxlan } = planeNames(this.#options.nodeId)
    await work.do('routes', async () => {
      const link = await findLink(this.#route, bridge)
      const addresses = link === undefined ? [] : await this.#route.dump(dumpAddresses(link.index))
      const gateways = addresses
        .map(decodeAddress)
        .filter((address) => address.link === link?.index)
        .map(({ prefix }) => prefix.split('/')[0] ?? '')
      work.add(await removeRoutes(this.#route, { devices: [bridge, vxlan], gateways }))
    })
    await work.do('devices', () => removeDevices(this.#route, this.#options.nodeId))
    for (const [family, firewall] of Object.entries(this.#firewalls)) {
      await work.do(`firewall (${family})`, () => firewall.remove())
    }
    await work.do('guard of tasks', () => this.#guard.remove())
    return work.faults
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(task)
    this.#turn = result.catch(() => {})
    return result
  }
}

/** Changes and faults of one application. */
class Work {
  changes = 0
  readonly faults: string[] = []

  /** Runs a step; whether it went well. */
  async do(subject: string, step: () => Promise<unknown>): Promise<boolean> {
    const before = this.faults.length
    try {
      await step()
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.faults.push(`${subject}: ${errorText(error)}`)
    }
    return this.faults.length === before
  }

  add(outcome: { readonly changes: number; readonly faults: readonly string[] }): void {
    this.changes += outcome.changes
    this.faults.push(...outcome.faults)
  }
}

/** Whether nothing differs that devices, settings and routes depend on; tasks come and go. */
function isSameBase(a: WantedPlane, b: WantedPlane): boolean {
  return (
    a.subnet === b.subnet &&
    a.ipv6Prefix === b.ipv6Prefix &&
    isSame(a.vxlan, b.vxlan) &&
    isSame(a.peers, b.peers) &&
    isSame(a.virtualRanges, b.virtualRanges) &&
    isSame(a.insideRanges, b.insideRanges)
  )
}

/** Of large lists that did not change the object is the same. */
function isSame(a: object, b: object): boolean {
  return a === b || isDeepStrictEqual(a, b)
}

function netnsOf(options: PlaneOptions): { readonly netns?: string } {
  return options.netns === undefined ? {} : { netns: options.netns }
}
