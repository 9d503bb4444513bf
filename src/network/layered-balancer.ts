/**
 * A kernel driver above the userspace one (decision 0006, layer 4). Userspace always listens on
 * every published port; packets that the kernel takes never reach it. So a port is reserved, it
 * works on 127.0.0.1, and it works when the kernel could not be programmed.
 *
 * Invariants: the kernel is given only backends that its packets reach, and only servers where
 * these suffice: where connections can only go to backends that userspace alone reaches, userspace
 * has them all. A port that userspace could not open belongs to another program, which the kernel
 * must not cut off. A fault of the kernel is a fault only where userspace cannot stand in.
 */
import { errorText, isSwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import { addressFamily, isLoopbackAddress } from './ports.ts'
import type { Backend, BalancerFault, LoadBalancer, ServerChange, VirtualServer } from './ports.ts'
import { changeTo, takeOver } from './server-change.ts'

/** The drivers, from below. */
export interface LayeredComponents {
  readonly kernel: LoadBalancer
  readonly userspace: LoadBalancer
  readonly log: Logger
}

/** A kernel driver with the userspace driver below it. */
export class LayeredBalancer implements LoadBalancer {
  readonly name: LoadBalancer['name']
  readonly reason: string
  readonly hasVirtualAddresses: boolean
  readonly #components: LayeredComponents
  /** By id, as told last; of them what userspace and what the kernel were given. */
  readonly #wanted = new Map<string, VirtualServer>()
  readonly #below = new Map<string, VirtualServer>()
  readonly #above = new Map<string, VirtualServer>()
  /** Ids of servers that userspace could not open. */
  #faulty: ReadonlySet<string> = new Set()
  /** Faults of the kernel that userspace stands in for, as logged last. */
  #hidden = ''

  constructor(components: LayeredComponents) {
    this.#components = components
    const { name, reason, hasVirtualAddresses } = components.kernel
    this.name = name
    this.reason = reason
    this.hasVirtualAddresses = hasVirtualAddresses
  }

  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.change(changeTo(this.#wanted, wanted))
  }

  async change(change: ServerChange): Promise<readonly BalancerFault[]> {
    const touched = new Set(takeOver(this.#wanted, change).keys())
    const faults = await this.#changeUserspace(touched)
    const faulty = new Set(faults.map((fault) => fault.id))
    // A port that another program has, or has no longer.
    for (const id of faulty.symmetricDifference(this.#faulty)) touched.add(id)
    this.#faulty = faulty
    const kernelFaults = await this.#changeKernel(touched)
    const isBelow = ({ id }: BalancerFault): boolean => this.#below.has(id)
    this.#reportHidden(kernelFaults.filter((fault) => isBelow(fault)))
    return [...faults, ...kernelFaults.filter((fault) => !isBelow(fault))]
  }

  async close(): Promise<void> {
    await this.#components.userspace.close()
    await this.#components.kernel.close()
  }

  #changeUserspace(touched: ReadonlySet<string>): Promise<readonly BalancerFault[]> {
    const part = this.#partOf(touched, (server) => (isForUserspace(server) ? server : undefined))
    const change = changeOf(this.#below, part)
    return this.#components.userspace.change(change)
  }

  /** A kernel driver that fails as a whole has a fault in every server. */
  async #changeKernel(touched: ReadonlySet<string>): Promise<readonly BalancerFault[]> {
    const part = this.#partOf(touched, (server) =>
      this.#faulty.has(server.id) ? undefined : kernelPart(server),
    )
    const change = changeOf(this.#above, part)
    try {
      return await this.#components.kernel.change(change)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      return [...this.#above.keys()].map((id) => ({ id, message: errorText(error) }))
    }
  }

  #partOf(
    touched: ReadonlySet<string>,
    partOf: (server: VirtualServer) => VirtualServer | undefined,
  ): Map<string, VirtualServer | undefined> {
    const part = new Map<string, VirtualServer | undefined>()
    for (const id of touched) {
      const server = this.#wanted.get(id)
      part.set(id, server && partOf(server))
    }
    return part
  }

  /** Logs what changed; a fault that stays is silent. */
  #reportHidden(hidden: readonly BalancerFault[]): void {
    const text = hidden.map(({ id, message }) => `${id}: ${message}`).join('\n')
    if (text === this.#hidden) return
    this.#hidden = text
    const { log } = this.#components
    if (text === '') log.info({ driver: this.name }, 'kernel balances again')
    else log.warn({ driver: this.name, faults: hidden }, 'userspace balances what kernel refuses')
  }
}

/** Makes `known` have `part`, where undefined is nothing; what differs. */
function changeOf(
  known: Map<string, VirtualServer>,
  part: ReadonlyMap<string, VirtualServer | undefined>,
): ServerChange {
  const set: VirtualServer[] = []
  const removed: string[] = []
  for (const [id, server] of part) {
    if (server !== undefined) set.push(server)
    else if (known.has(id)) removed.push(id)
  }
  const change = { set, removed }
  takeOver(known, change)
  return change
}

/** What the kernel is given of a server; undefined = nothing. */
export function kernelPart(server: VirtualServer): VirtualServer | undefined {
  if (server.proxyProtocol !== undefined) return undefined
  const family = addressFamily(server.address)
  const backends = server.backends.filter(
    (backend) => isForKernel(backend) && addressFamily(backend.address) === family,
  )
  if (isForUserspace(server)) {
    const isServed = backends.some(takesNew)
    if (backends.length === 0) return undefined
    if (!isServed && server.backends.some(takesNew)) return undefined
  }
  return backends.length === server.backends.length ? server : { ...server, backends }
}

function isForUserspace({ protocol }: VirtualServer): boolean {
  return protocol === 'tcp' || protocol === 'udp'
}

function takesNew({ weight }: Backend): boolean {
  return weight > 0
}

/** A process that shares the host's network answers on loopback, where no packet is sent on. */
function isForKernel({ local, routed, address }: Backend): boolean {
  return (local || routed === true) && !isLoopbackAddress(address)
}
