/**
 * Tasks' places on the plane: a namespace, a cable to the bridge, one address. By netlink alone.
 *
 * The address is a /32 and its gateway the only neighbour, the bridge's port is isolated: so every
 * packet of a task passes this node's IP layer, where networks and virtual addresses are decided.
 * Macvlan and ipvlan networks add a device with an address of its own.
 *
 * The cable is deleted before the namespace: it vanishes at once, the kernel destroys a namespace
 * at leisure. What an attempt that failed has made is removed.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { SwarmError } from '../../base/errors.ts'
import { deleteLink, newLink, setBridgePort, setLink } from '../netlink/link.ts'
import type { LinkKind } from '../netlink/link.ts'
import type { Native } from '../netlink/native.ts'
import { fromNative, isNetlinkError } from '../netlink/netlink-error.ts'
import { setBridgeEntry } from '../netlink/neighbour.ts'
import { newRoute, setAddress } from '../netlink/route.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { findLink, withoutLinkLocal } from './devices.ts'
import { macOfTask, namespaceName, vethName } from './names.ts'

/** Where `ip netns` looks for namespaces, too. */
const NAMESPACE_DIRECTORY = '/run/netns'
const CABLE_NAME = 'eth0'

/** A device with an address of its own, on a device of the host's. */
export interface ExtraLink {
  readonly kind: 'macvlan' | 'ipvlan'
  /** Name of the host's device. It must be there. */
  readonly parent: string
  /**
   * Macvlan: `bridge` (default), `private`, `vepa`, `passthru`; ipvlan: `l2` (default), `l3`,
   * `l3s`.
   */
  readonly mode?: string
  /** Default: the parent's. */
  readonly mtu?: number
  /** `192.168.7.20/24` */
  readonly cidr: string
}

/** Where a task is to be. */
export interface TaskLink {
  /** Address with the prefix of its node's subnet: the MAC derives from it. */
  readonly cidr: string
  readonly gateway: string
  /** Name of the bridge; it must be there. */
  readonly bridge: string
  readonly mtu?: number
  /** Addresses, without prefixes. */
  readonly ipv6?: { readonly address: string; readonly gateway: string }
  /** Become eth1, eth2, … */
  readonly extras?: readonly ExtraLink[]
}

/** Where links are made. */
export interface TaskLinksOptions {
  /** Path of the host's network namespace; without one this process's. */
  readonly netns?: string
  /** Where files of namespaces are made; default `/run/netns`. */
  readonly directory?: string
}

/** Connects and disconnects tasks. Close it, or use `await using`. */
export class TaskLinks implements AsyncDisposable {
  readonly #native: Native
  readonly #socket: NetlinkSocket
  readonly #directory: string

  private constructor(native: Native, socket: NetlinkSocket, directory: string) {
    this.#native = native
    this.#socket = socket
    this.#directory = directory
  }

  /** @throws NetlinkError */
  static async open(native: Native, options: TaskLinksOptions = {}): Promise<TaskLinks> {
    const place = options.netns === undefined ? {} : { netns: options.netns }
    const socket = await NetlinkSocket.open(native, { protocol: 'route', ...place })
    return new TaskLinks(native, socket, options.directory ?? NAMESPACE_DIRECTORY)
  }

  /** Path of a task's namespace, whether it is there or not. */
  namespacePath(taskId: string): string {
    return join(this.#directory, namespaceName(taskId))
  }

  /**
   * Connects a task; the path of its namespace. What an earlier attempt left is removed first.
   * @throws RUNTIME_FAILED
   */
  async attach(taskId: string, link: TaskLink): Promise<string> {
    const path = this.namespacePath(taskId)
    try {
      await this.detach(taskId)
      mkdirSync(this.#directory, { recursive: true, mode: 0o755 })
      await this.#createNamespace(path)
      await this.#connect(taskId, path, link)
      return path
    } catch (cause) {
      await this.detach(taskId)
      const message = `network of task ${taskId}: cannot make it`
      throw new SwarmError('RUNTIME_FAILED', message, { cause })
    }
  }

  /** Disconnects a task. Nothing to do is no error. @throws NetlinkError */
  async detach(taskId: string): Promise<void> {
    await this.#deleteIfThere(vethName(taskId))
    const path = this.namespacePath(taskId)
    try {
      await this.#native.removeNetns(path)
    } catch (error) {
      const refusal = fromNative(error, `remove network namespace ${path}`)
      if (!isNetlinkError(refusal, 'ENOENT')) throw refusal
    }
  }

  /**
   * Makes a bridge and a task on it under names of `id`, and removes them: whether this host can
   * connect tasks at all. @throws RUNTIME_FAILED
   */
  async probe(id: string): Promise<void> {
    const bridge = vethName(id).replace('skv', 'skb')
    try {
      await this.#socket.request(newLink({ name: bridge }, { kind: 'bridge' }))
      await this.attach(id, { cidr: '192.0.2.2/24', gateway: '192.0.2.1', bridge })
    } finally {
      await this.detach(id)
      await this.#deleteIfThere(bridge)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#socket[Symbol.asyncDispose]()
  }

  async #createNamespace(path: string): Promise<void> {
    try {
      await this.#native.createNetns(path)
    } catch (error) {
      throw fromNative(error, `make network namespace ${path}`)
    }
  }

  async #connect(taskId: string, path: string, link: TaskLink): Promise<void> {
    const bridge = await findLink(this.#socket, link.bridge)
    if (bridge === undefined) {
      throw new SwarmError('FAILED_PRECONDITION', `device "${link.bridge}": does not exist`)
    }
    const netnsFd = openSync(path, 'r')
    try {
      const mtu = link.mtu === undefined ? {} : { mtu: link.mtu }
      const macAddress = macOfTask(link.cidr)
      const peer = { name: CABLE_NAME, macAddress, netnsFd, ...mtu }
      const name = vethName(taskId)
      await this.#socket.request(
        newLink({ name, master: bridge.index, up: false, ...mtu }, { kind: 'veth', peer }),
      )
      await this.#isolate(name, macAddress)
      for (const [index, extra] of (link.extras ?? []).entries()) {
        await this.#makeExtra(`eth${index + 1}`, extra, netnsFd)
      }
    } finally {
      closeSync(netnsFd)
    }
    await using inside = await NetlinkSocket.open(this.#native, { protocol: 'route', netns: path })
    await configure(inside, link)
  }

  /** Before it is up: no packet passes an open port, and nothing is learned from what comes. */
  async #isolate(name: string, macAddress: string): Promise<void> {
    const port = await findLink(this.#socket, name)
    if (port === undefined) throw new SwarmError('FAILED_PRECONDITION', `device "${name}": is gone`)
    await this.#socket.request(setBridgePort(port.index, { isolated: true, learning: false }))
    await this.#socket.request(setBridgeEntry(port.index, macAddress))
    await withoutLinkLocal(this.#socket, name)
    await this.#socket.request(setLink(port.index, { up: true }))
  }

  async #makeExtra(name: string, extra: ExtraLink, netnsFd: number): Promise<void> {
    const parent = await findLink(this.#socket, extra.parent)
    if (parent === undefined) {
      const what = `device "${extra.parent}": does not exist; the network's option parent names it`
      throw new SwarmError('FAILED_PRECONDITION', what)
    }
    const kind = extraKind(extra, parent.index)
    // The same for the same address; an ipvlan has its parent's.
    const mac = kind.kind === 'macvlan' ? { macAddress: macOfTask(extra.cidr) } : {}
    const mtu = extra.mtu === undefined ? {} : { mtu: extra.mtu }
    await this.#socket.request(newLink({ name, netnsFd, up: false, ...mac, ...mtu }, kind))
  }

  async #deleteIfThere(name: string): Promise<void> {
    try {
      await this.#socket.request(deleteLink(name))
    } catch (error) {
      if (!isNetlinkError(error, 'ENODEV')) throw error
    }
  }
}

/** Sets up what is inside the namespace. */
async function configure(inside: NetlinkSocket, link: TaskLink): Promise<void> {
  await inside.request(setLink('lo', { up: true }))
  await withoutLinkLocal(inside, CABLE_NAME)
  await inside.request(setLink(CABLE_NAME, { up: true }))
  const { index } = await mustFind(inside, CABLE_NAME)
  const [address = ''] = link.cidr.split('/')
  await inside.request(setAddress({ link: index, prefix: `${address}/32` }))
  await inside.request(
    newRoute({ destination: '0.0.0.0/0', gateway: link.gateway, link: index, onlink: true }),
  )
  if (link.ipv6 !== undefined) {
    await inside.request(setAddress({ link: index, prefix: `${link.ipv6.address}/128` }))
    await inside.request(newRoute({ destination: `${link.ipv6.gateway}/128`, link: index }))
    await inside.request(newRoute({ destination: '::/0', gateway: link.ipv6.gateway, link: index }))
  }
  for (const [place, extra] of (link.extras ?? []).entries()) {
    const name = `eth${place + 1}`
    await inside.request(setLink(name, { up: true }))
    const { index: extraIndex } = await mustFind(inside, name)
    await inside.request(setAddress({ link: extraIndex, prefix: extra.cidr }))
  }
}

async function mustFind(socket: NetlinkSocket, name: string): Promise<{ readonly index: number }> {
  const link = await findLink(socket, name)
  if (link !== undefined) return link
  throw new SwarmError('FAILED_PRECONDITION', `device "${name}": is gone`)
}

const MACVLAN = ['private', 'vepa', 'bridge', 'passthru'] as const
const IPVLAN = ['l2', 'l3', 'l3s'] as const

function extraKind(extra: ExtraLink, parent: number): LinkKind {
  const { kind, mode } = extra
  if (kind === 'macvlan') {
    return { kind, parent, mode: oneOf(MACVLAN, mode ?? 'bridge', kind) }
  }
  return { kind, parent, mode: oneOf(IPVLAN, mode ?? 'l2', kind) }
}

function oneOf<T extends string>(modes: readonly T[], mode: string, kind: string): T {
  const found = modes.find((one) => one === mode)
  if (found !== undefined) return found
  throw new SwarmError('INVALID_ARGUMENT', `${kind} mode "${mode}": is none of ${modes.join(', ')}`)
}
