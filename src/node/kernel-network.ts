/**
 * What this host's kernel does for the network, decided once when the daemon starts: IPVS or
 * nftables with a data plane of its own below, or nothing, and why so. Tasks are connected through
 * the plane where there is one.
 *
 * A node that listens on a loopback address is one of several on this host (a trial, a test): they
 * share one kernel, whose ports and marks can be only one node's. So it stays with userspace.
 */
import type { SwarmFacts } from '../agent/choose-executor.ts'
import { NodeNetwork } from '../agent/networking.ts'
import type { TaskNetworks } from '../agent/ports.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import { HostSettings } from '../network/host-settings.ts'
import { IpvsBalancer } from '../network/ipvs/ipvs-balancer.ts'
import { NftMarks } from '../network/ipvs/nft-marks.ts'
import type { Native, NativeLoad } from '../network/netlink/native.ts'
import { loadNative } from '../network/netlink/native.ts'
import { NftablesBalancer } from '../network/nftables/balancer.ts'
import { chooseDriver, probeCapabilities } from '../network/plane/capabilities.ts'
import type { DriverChoice } from '../network/plane/capabilities.ts'
import { planeNames } from '../network/plane/names.ts'
import { Plane } from '../network/plane/plane.ts'
import type { LoadBalancer, Scheduler } from '../network/ports.ts'
import { IPVS_TIMEOUTS_NAME, nativeSettings, plainSettings } from '../network/setting-access.ts'
import { hostRecordFile } from './host-record.ts'
import { KernelNetworks } from './kernel-networks.ts'

/** What choosing needs. */
export interface KernelComponents {
  readonly clock: Clock
  readonly log: Logger
  /** What the swarm says when it is asked; the node id is empty outside a swarm. */
  readonly swarm: SwarmFacts
}

/** Where the daemon is, and what was asked for. */
export interface KernelOptions {
  readonly dataDirectory: string
  readonly listenAddress: string
  /** No better one than this is taken. */
  readonly balancer?: 'auto' | DriverChoice['driver']
}

/** A kernel driver that can also take everything of its own out of the kernel. */
export interface KernelBalancer extends LoadBalancer {
  remove(): Promise<void>
}

interface Parts {
  readonly choice: DriverChoice
  /** Whether the kernel can check what tasks send. */
  readonly guardsPorts: boolean
  readonly missingSchedulers: readonly Scheduler[]
  readonly settings: HostSettings
  /** Connects tasks where there is no plane. */
  readonly simple: NodeNetwork
  readonly kernel?: { readonly native: Native; readonly networks: KernelNetworks }
}

/** The kernel as this node uses it. */
export class KernelNetwork {
  readonly #components: KernelComponents
  readonly #parts: Parts

  private constructor(components: KernelComponents, parts: Parts) {
    this.#components = components
    this.#parts = parts
  }

  /** Which driver, and why no better one. */
  get choice(): DriverChoice {
    return this.#parts.choice
  }

  /** How tasks are connected through the plane; undefined: there is none. */
  get networks(): KernelNetworks | undefined {
    return this.#parts.kernel?.networks
  }

  /** How tasks are connected. */
  get taskNetworks(): TaskNetworks {
    return this.networks ?? this.#parts.simple
  }

  /** Tries what the kernel can do. Never rejects for what it cannot. */
  static async probe(components: KernelComponents, options: KernelOptions): Promise<KernelNetwork> {
    const { log, swarm } = components
    const load = loadNative()
    const access = load.type === 'absent' ? plainSettings() : nativeSettings(load.native)
    const settings = new HostSettings(access, hostRecordFile(options.dataDirectory))
    const enableForwarding = async (): Promise<void> => {
      await settings.set('net/ipv4/ip_forward', '1')
    }
    const simple = new NodeNetwork(
      { log },
      {
        nodeId: () => swarm.nodeId(),
        addressPools: () => swarm.addressPools(),
        enableForwarding,
      },
    )
    const parts = { ...(await chooseFor(load, options)), settings, simple }
    const { choice } = parts
    if (choice.driver === 'userspace' || load.type === 'absent') {
      return new KernelNetwork(components, parts)
    }
    const { native } = load
    const networks = await KernelNetworks.open({ native, simple })
    return new KernelNetwork(components, { ...parts, kernel: { native, networks } })
  }

  /** Opens the plane of a node; undefined without a kernel. @throws NetlinkError */
  async openPlane(nodeId: string): Promise<Plane | undefined> {
    const { kernel, settings, guardsPorts } = this.#parts
    if (kernel === undefined) return undefined
    return await Plane.open(kernel.native, { nodeId, settings, guardsPorts })
  }

  /** Opens the balancer of a node; undefined without a kernel. @throws SwarmError */
  async openBalancer(nodeId: string): Promise<KernelBalancer | undefined> {
    const { kernel, choice } = this.#parts
    if (kernel === undefined) return undefined
    const { native } = kernel
    const { clock, log } = this.#components
    const { balancerTable: table } = planeNames(nodeId)
    if (choice.driver === 'ipvs') return await this.#openIpvs(native, nodeId)
    return await NftablesBalancer.open({ native, clock, log }, { table, reason: choice.reason })
  }

  /**
   * Says, durably, whose devices and tables this host will have: before the first is made.
   * @throws STORAGE_FULL, INTERNAL
   */
  claim(nodeId: string): Promise<void> {
    return this.#parts.settings.claim(nodeId)
  }

  /** The node whose devices and tables this host may have; undefined: none. */
  claimant(): Promise<string | undefined> {
    return this.#parts.settings.claimant()
  }

  /**
   * Takes everything of this node out of the kernel, also what an earlier daemon left, and puts the
   * host's settings back. Its tasks must be gone. @throws RUNTIME_FAILED with what stayed
   */
  async leave(): Promise<void> {
    const { kernel, settings } = this.#parts
    const nodeId = this.#components.swarm.nodeId() || (await settings.claimant())
    const faults: string[] = []
    const attempt = async (step: () => Promise<unknown>): Promise<void> => {
      try {
        await step()
      } catch (error) {
        if (!isSwarmError(error)) throw error
        faults.push(errorText(error))
      }
    }
    if (kernel !== undefined && nodeId !== undefined) {
      await attempt(() => this.#removeBalancers(kernel.native, nodeId))
      await using plane = await Plane.open(kernel.native, { nodeId, settings })
      faults.push(...(await plane.remove()))
    }
    await attempt(() => settings.restore())
    if (faults.length === 0) return
    throw new SwarmError('RUNTIME_FAILED', `this host: not all is as it was: ${faults.join('; ')}`)
  }

  /** {@link leave} for a node that goes on all the same: what stayed is logged. */
  async leaveOrSay(): Promise<void> {
    try {
      await this.leave()
    } catch (error) {
      if (!isSwarmError(error)) throw error
      this.#components.log.warn({ err: errorText(error) }, 'left something behind on this host')
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.networks?.[Symbol.asyncDispose]()
  }

  /** The one that is used, and IPVS where an earlier daemon used it. */
  async #removeBalancers(native: Native, nodeId: string): Promise<void> {
    const { choice, settings } = this.#parts
    const hadIpvs = choice.driver !== 'ipvs' && (await settings.hasChanged(IPVS_TIMEOUTS_NAME))
    const balancers = [
      ...(hadIpvs ? [await this.#openIpvs(native, nodeId)] : []),
      await this.openBalancer(nodeId),
    ]
    for (const balancer of balancers) {
      await balancer?.remove()
      await balancer?.close()
    }
  }

  async #openIpvs(native: Native, nodeId: string): Promise<IpvsBalancer> {
    const { clock, log } = this.#components
    const { choice, settings, missingSchedulers } = this.#parts
    const marks = await NftMarks.open(native, { table: planeNames(nodeId).balancerTable })
    try {
      const parts = { native, clock, log, marks }
      const { reason } = choice
      return await IpvsBalancer.open(parts, { reason, settings, missingSchedulers })
    } catch (error) {
      marks.close()
      throw error
    }
  }
}

/** The driver that this host and these options allow, and what it lacks besides. */
async function chooseFor(
  load: NativeLoad,
  options: KernelOptions,
): Promise<Pick<Parts, 'choice' | 'guardsPorts' | 'missingSchedulers'>> {
  if (isLoopback(options.listenAddress)) {
    const reason = 'it listens on a loopback address, so other nodes may share this kernel'
    const choice = { driver: 'userspace', reason } as const
    return { choice, guardsPorts: false, missingSchedulers: [] }
  }
  const found = await probeCapabilities(load)
  const { balancer = 'auto' } = options
  const choice = chooseDriver(found, balancer === 'auto' ? 'ipvs' : balancer)
  const guardsPorts = found.portGuard.isThere
  const { missingSchedulers } = found
  if (guardsPorts || choice.driver === 'userspace') {
    return { choice, guardsPorts, missingSchedulers }
  }
  const reason = `${choice.reason}; what tasks send is not checked: ${found.portGuard.text}`
  return { choice: { ...choice, reason }, guardsPorts, missingSchedulers }
}

function isLoopback(listenAddress: string): boolean {
  const host = listenAddress.slice(0, listenAddress.lastIndexOf(':')).replaceAll(/[[\]]/g, '')
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}
