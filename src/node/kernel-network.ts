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
import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/log.ts'
import { IpvsBalancer } from '../network/ipvs/ipvs-balancer.ts'
import { NftMarks } from '../network/ipvs/nft-marks.ts'
import type { Native } from '../network/netlink/native.ts'
import { loadNative } from '../network/netlink/native.ts'
import { NftablesBalancer } from '../network/nftables/balancer.ts'
import { chooseDriver, probeCapabilities } from '../network/plane/capabilities.ts'
import type { DriverChoice } from '../network/plane/capabilities.ts'
import { planeNames } from '../network/plane/names.ts'
import { Plane } from '../network/plane/plane.ts'
import type { LoadBalancer } from '../network/ports.ts'
import { KernelNetworks } from './kernel-networks.ts'

/** Why IPVS is not taken by itself. */
const CAUTIOUS: DriverChoice = {
  driver: 'nftables',
  reason: 'IPVS is there, but not yet proven under real daemons; --balancer ipvs takes it',
}

/** What choosing needs. */
export interface KernelComponents {
  readonly clock: Clock
  readonly log: Logger
  /** What the swarm says when it is asked; the node id is empty outside a swarm. */
  readonly swarm: SwarmFacts
}

/** A kernel driver that can also take everything of its own out of the kernel. */
export interface KernelBalancer extends LoadBalancer {
  remove(): Promise<void>
}

/** The kernel as this node uses it. */
export class KernelNetwork {
  /** Which driver, and why no better one. */
  readonly choice: DriverChoice
  /** How containers are connected; undefined: without the plane. */
  readonly networks: KernelNetworks | undefined
  readonly #components: KernelComponents
  readonly #native: Native | undefined

  private constructor(
    components: KernelComponents,
    choice: DriverChoice,
    kernel?: { readonly native: Native; readonly networks: KernelNetworks },
  ) {
    this.#components = components
    this.choice = choice
    this.#native = kernel?.native
    this.networks = kernel?.networks
  }

  /** Tries what the kernel can do. Never rejects for what it cannot. */
  static async probe(
    components: KernelComponents,
    options: { readonly listenAddress: string; readonly balancer?: 'auto' | 'ipvs' },
  ): Promise<KernelNetwork> {
    if (isLoopback(options.listenAddress)) {
      const reason = 'it listens on a loopback address, so other nodes may share this kernel'
      return new KernelNetwork(components, { driver: 'userspace', reason })
    }
    const load = loadNative()
    const best = chooseDriver(await probeCapabilities(load))
    const choice = best.driver === 'ipvs' && options.balancer !== 'ipvs' ? CAUTIOUS : best
    if (choice.driver === 'userspace' || load.type === 'absent') {
      return new KernelNetwork(components, { ...choice, driver: 'userspace' })
    }
    const { native } = load
    const { log, swarm } = components
    const simple = new NodeNetwork({ log }, swarm)
    const networks = await KernelNetworks.open({ native, simple }, { nodeId: () => swarm.nodeId() })
    const kernel = new KernelNetwork(components, choice, { native, networks })
    networks.removeBalancer = () => kernel.#removeBalancer()
    return kernel
  }

  /** Opens the plane of a node; undefined without a kernel. @throws NetlinkError */
  async openPlane(nodeId: string): Promise<Plane | undefined> {
    if (this.#native === undefined) return undefined
    return await Plane.open(this.#native, { nodeId, ipvs: this.choice.driver === 'ipvs' })
  }

  /** Opens the balancer of a node; undefined without a kernel. @throws SwarmError */
  async openBalancer(nodeId: string): Promise<KernelBalancer | undefined> {
    const native = this.#native
    if (native === undefined) return undefined
    const { clock, log } = this.#components
    const { driver, reason } = this.choice
    const { balancerTable: table } = planeNames(nodeId)
    if (driver === 'nftables') {
      return await NftablesBalancer.open({ native, clock, log }, { table, reason })
    }
    const marks = await NftMarks.open(native, { table })
    try {
      return await IpvsBalancer.open({ native, clock, log, marks }, { reason })
    } catch (error) {
      marks.close()
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.networks?.[Symbol.asyncDispose]()
  }

  /** Takes the node's balancer out of the kernel, also what an earlier daemon left. */
  async #removeBalancer(): Promise<void> {
    const balancer = await this.openBalancer(this.#components.swarm.nodeId())
    await balancer?.remove()
    await balancer?.close()
  }
}

function isLoopback(listenAddress: string): boolean {
  const host = listenAddress.slice(0, listenAddress.lastIndexOf(':')).replaceAll(/[[\]]/g, '')
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}
