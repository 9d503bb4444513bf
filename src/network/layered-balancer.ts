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
import type { Backend, BalancerFault, LoadBalancer, VirtualServer } from './ports.ts'

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
  /** Faults of the kernel that userspace stands in for, as logged last. */
  #hidden = ''

  constructor(components: LayeredComponents) {
    this.#components = components
    const { name, reason, hasVirtualAddresses } = components.kernel
    this.name = name
    this.reason = reason
    this.hasVirtualAddresses = hasVirtualAddresses
  }

  async apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    const { userspace } = this.#components
    const below = new Set(wanted.filter(isForUserspace).map((server) => server.id))
    const faults = await userspace.apply(wanted.filter((server) => below.has(server.id)))
    const faulty = new Set(faults.map((fault) => fault.id))
    const above = wanted
      .filter((server) => !faulty.has(server.id))
      .flatMap((server) => kernelPart(server) ?? [])
    const kernelFaults = await this.#applyToKernel(above)
    this.#reportHidden(kernelFaults.filter((fault) => below.has(fault.id)))
    return [...faults, ...kernelFaults.filter((fault) => !below.has(fault.id))]
  }

  async close(): Promise<void> {
    await this.#components.userspace.close()
    await this.#components.kernel.close()
  }

  /** A kernel driver that fails as a whole has a fault in every server. */
  async #applyToKernel(servers: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    try {
      return await this.#components.kernel.apply(servers)
    } catch (error) {
      if (!isSwarmError(error)) throw error
      return servers.map(({ id }) => ({ id, message: errorText(error) }))
    }
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

/** What the kernel is given of a server; undefined = nothing. */
export function kernelPart(server: VirtualServer): VirtualServer | undefined {
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
