/**
 * Connects tasks by netlink to the kernel's data plane, while this node has one; else as
 * `agent/networking.ts` does. Disconnecting and removing are the same for both: names are.
 */
import type { TaskNetworking, TaskNetworks } from '../agent/ports.ts'
import type { Native } from '../network/netlink/native.ts'
import { ipv6Of } from '../store/ipv6.ts'
import { TaskLinks } from '../network/plane/task-links.ts'
import type { TaskLink } from '../network/plane/task-links.ts'

/** The plane of a membership, as tasks need it. */
export interface TaskPlane {
  /** Resolves when the plane knows all tasks that this node knows. */
  ensure(): Promise<void>
  /** MTU of the overlay; undefined while it has no devices. */
  readonly mtu: number | undefined
  /** Undefined: no network wants IPv6. */
  readonly ipv6Prefix: string | undefined
}

/** What it is made of. */
export interface KernelNetworksComponents {
  readonly native: Native
  /** For a node without a plane. */
  readonly simple: Pick<TaskNetworks, 'attach'>
}

/** Tasks' networks on a host with the netlink addon. Close it, or use `await using`. */
export class KernelNetworks implements TaskNetworks, AsyncDisposable {
  readonly #simple: Pick<TaskNetworks, 'attach'>
  readonly #links: TaskLinks
  /** Set by the attachment of a membership whose node uses the kernel. */
  plane: TaskPlane | undefined

  private constructor(components: KernelNetworksComponents, links: TaskLinks) {
    this.#simple = components.simple
    this.#links = links
  }

  /** @throws NetlinkError */
  static async open(components: KernelNetworksComponents): Promise<KernelNetworks> {
    return new KernelNetworks(components, await TaskLinks.open(components.native))
  }

  async attach(taskId: string, networking: TaskNetworking): Promise<string> {
    const { plane } = this
    if (plane === undefined) return this.#simple.attach(taskId, networking)
    await plane.ensure()
    return this.#links.attach(taskId, linkOf(networking, plane))
  }

  detach(taskId: string): Promise<void> {
    return this.#links.detach(taskId)
  }

  probe(id: string): Promise<void> {
    return this.#links.probe(id)
  }

  /** What tasks share is the node's: `KernelNetwork.leave` removes it. */
  dispose(): Promise<void> {
    return Promise.resolve()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#links[Symbol.asyncDispose]()
  }
}

function linkOf(networking: TaskNetworking, plane: TaskPlane): TaskLink {
  const { cidr, gateway, bridge, extras, hasIpv6 } = networking
  const [address = ''] = cidr.split('/')
  const mtus = [networking.mtu, plane.mtu].filter((mtu) => mtu !== undefined)
  const { ipv6Prefix } = plane
  return {
    cidr,
    gateway,
    bridge,
    ...(mtus.length === 0 ? {} : { mtu: Math.min(...mtus) }),
    ...(extras === undefined ? {} : { extras }),
    ...(ipv6Prefix === undefined || hasIpv6 !== true
      ? {}
      : { ipv6: { address: ipv6Of(ipv6Prefix, address), gateway: ipv6Of(ipv6Prefix, gateway) } }),
  }
}
