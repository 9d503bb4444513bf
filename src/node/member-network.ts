/**
 * The network of one membership: the plane, the balancers, the resolver, each following the store.
 * Whatever of the kernel cannot be had is done without: published ports always work by userspace.
 *
 * Order of start: plane, balancers, resolver; then the agent's tasks. Stopped, the kernel goes on
 * as it is, so that an upgrade of the daemon breaks no connection; removed when the node leaves.
 */
import type { Agent } from '../agent/agent.ts'
import type { Clock } from '../base/clock.ts'
import { errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { DnsService } from '../network/dns/dns-service.ts'
import { programmedByAll } from '../network/drain/progress.ts'
import type { Programmed } from '../network/drain/progress.ts'
import { LayeredBalancer } from '../network/layered-balancer.ts'
import { NetworkReconciler } from '../network/network.ts'
import type { PeerLinks } from '../network/network.ts'
import { ipv6Of } from '../store/ipv6.ts'
import { gatewayOf } from '../network/plane/names.ts'
import type { Plane } from '../network/plane/plane.ts'
import { PlaneReconciler } from '../network/plane/plane-reconciler.ts'
import type { PeerRelays } from '../network/plane/plane-reconciler.ts'
import type { LoadBalancer, RemoteDialer } from '../network/ports.ts'
import { UserspaceBalancer } from '../network/userspace/balancer.ts'
import type { StoreView } from '../store/view.ts'
import type { KernelBalancer, KernelNetwork } from './kernel-network.ts'
import type { TaskPlane } from './kernel-networks.ts'

/** What the network of a membership is built from. */
export interface MemberNetworkComponents {
  readonly store: StoreView
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly kernel: KernelNetwork
  /** This node's tasks as it knows them itself. */
  readonly ownTasks: Pick<Agent, 'tasks' | 'onChange'>
  readonly dialer: RemoteDialer
  readonly links: PeerLinks & PeerRelays
}

/** Whose network, and where it listens. */
export interface MemberNetworkOptions {
  readonly nodeId: string
  readonly listenAddress: string
  /** Whether published ports answer in IPv6, too. */
  readonly hasIpv6: boolean
}

interface KernelParts {
  readonly plane: Plane
  readonly balancer: KernelBalancer
  readonly reconciler: PlaneReconciler
}

/** The running network of a membership. */
export class MemberNetwork {
  readonly #components: MemberNetworkComponents
  readonly #options: MemberNetworkOptions
  readonly #balancer: LoadBalancer
  readonly #kernel: KernelParts | undefined
  readonly #network: NetworkReconciler
  readonly #dns: DnsService | undefined
  /** What the resolver was moved to last; settles when it is there. Never rejects. */
  #resolving: { readonly subnet: string | undefined; readonly done: Promise<unknown> } = {
    subnet: undefined,
    done: Promise.resolve(),
  }
  #unfollow: (() => void) | undefined

  private constructor(
    components: MemberNetworkComponents,
    options: MemberNetworkOptions,
    kernel: KernelParts | undefined,
  ) {
    const { kernel: host, ...shared } = components
    this.#components = components
    this.#options = options
    this.#kernel = kernel
    const userspace = UserspaceBalancer.create(shared, { reason: host.choice.reason })
    const { log } = components
    this.#balancer =
      kernel === undefined
        ? userspace
        : new LayeredBalancer({ kernel: kernel.balancer, userspace, log })
    const routed = kernel !== undefined
    this.#network = new NetworkReconciler(
      { ...shared, balancer: this.#balancer },
      { ...options, routed },
    )
    this.#dns = kernel === undefined ? undefined : this.#makeDns(kernel)
  }

  /** Starts what the kernel allows, the rest by userspace. */
  static async start(
    components: MemberNetworkComponents,
    options: MemberNetworkOptions,
  ): Promise<MemberNetwork> {
    const kernel = await openKernel(components, options)
    const network = new MemberNetwork(components, options, kernel)
    kernel?.reconciler.start()
    network.#network.start()
    network.#unfollow = components.store.onCommit(() => network.#maybeResolve())
    network.#maybeResolve()
    return network
  }

  /** What does not work on this node, for people. */
  faults(): readonly string[] {
    const ports = this.#network.status().faults.map(({ message }) => message)
    return [...(this.#kernel?.reconciler.faults ?? []), ...new Set(ports)]
  }

  /** Up to which entry of the store plane and balancers have everything. */
  get programmed(): Programmed {
    const plane = this.#kernel === undefined ? [] : [this.#kernel.reconciler.progress]
    return programmedByAll([this.#network.progress, ...plane])
  }

  /** The resolver that a container started now is told; undefined: the host's servers. */
  async resolver(): Promise<string | undefined> {
    const subnet = this.#components.store.get('nodes', this.#options.nodeId)?.subnet
    if (this.#dns === undefined || subnet === undefined) return undefined
    await this.#kernel?.reconciler.ensure()
    await this.#dns.listen(gatewayOf(subnet))
    return this.#dns.address
  }

  /** Stops following; with `remove` the kernel forgets this node, too. */
  async stop(options: { readonly remove: boolean }): Promise<void> {
    this.#unfollow?.()
    await this.#resolving.done
    await Promise.all([this.#network.stop(), this.#dns?.close()])
    const { networks } = this.#components.kernel
    if (networks !== undefined) networks.plane = undefined
    await this.#kernel?.reconciler.stop()
    if (options.remove) await this.#kernel?.balancer.remove()
    await this.#balancer.close()
    await this.#kernel?.plane[Symbol.asyncDispose]()
  }

  /** Containers that ran on while no daemon did ask at once; it does not wait for the next one. */
  #maybeResolve(): void {
    const subnet = this.#components.store.get('nodes', this.#options.nodeId)?.subnet
    if (this.#dns === undefined || subnet === this.#resolving.subnet) return
    this.#resolving = { subnet, done: this.resolver() }
  }

  #makeDns(kernel: KernelParts): DnsService {
    const { store, ownTasks, clock, random, log } = this.#components
    const { nodeId } = this.#options
    return new DnsService(
      {
        store,
        ownTasks,
        clock,
        random,
        log,
        ipv6Of: (address) => {
          const prefix = kernel.reconciler.wanted?.ipv6Prefix
          return prefix === undefined ? undefined : ipv6Of(prefix, address)
        },
      },
      { nodeId, hasVirtualAddresses: true, routed: true },
    )
  }
}

/** The kernel's parts; undefined where there are none, or when they cannot be opened. */
async function openKernel(
  components: MemberNetworkComponents,
  { nodeId }: MemberNetworkOptions,
): Promise<KernelParts | undefined> {
  const { kernel, store, clock, log, ownTasks, links: relays } = components
  let plane: Plane | undefined
  try {
    plane = await kernel.openPlane(nodeId)
    const balancer = await kernel.openBalancer(nodeId)
    if (plane === undefined || balancer === undefined) return undefined
    const reconciler = new PlaneReconciler(
      { store, plane, clock, log, ownTasks, relays },
      { nodeId },
    )
    if (kernel.networks !== undefined) kernel.networks.plane = taskPlane(plane, reconciler)
    return { plane, balancer, reconciler }
  } catch (error) {
    if (!isSwarmError(error)) throw error
    log.error({ error: errorText(error) }, 'the kernel balances nothing: userspace does')
    await plane?.[Symbol.asyncDispose]()
    return undefined
  }
}

/** The plane as tasks that are connected need it. */
function taskPlane(plane: Plane, reconciler: PlaneReconciler): TaskPlane {
  return {
    ensure: () => reconciler.ensure(),
    get mtu() {
      return plane.mtu
    },
    get ipv6Prefix() {
      return reconciler.wanted?.ipv6Prefix
    },
  }
}
