/**
 * A service's endpoint: its published ports, the networks that its tasks are on, and its virtual
 * address on each overlay network. Allocated once a spec; what the service had and may keep, it
 * keeps. Source: swarmkit `manager/allocator/network.go` for when and what.
 */
import type { NetworkAttachment, Service, VirtualAddress } from '../store/objects.ts'
import { attachmentsOf, freeAddressOn, isOverlay } from './networks.ts'
import type { Plan } from './plan.ts'
import { settlePorts } from './published-ports.ts'

/** Whether the endpoint stands for the current spec. */
export function isAllocated(service: Service): boolean {
  return service.endpoint?.allocatedFor === service.specVersion
}

/**
 * Gives `service` its endpoint if its spec is new. Returns why that is not possible, or undefined.
 */
export function allocateEndpoint(plan: Plan, service: Service): string | undefined {
  if (isAllocated(service)) return undefined
  const ports = settlePorts(plan, service)
  if (typeof ports === 'string') return ports
  const networks = attachmentsOf(plan, service.spec)
  if (typeof networks === 'string') return networks
  const virtualAddresses = settleAddresses(plan, service, networks)
  if (typeof virtualAddresses === 'string') return virtualAddresses
  if (!plan.room()) return 'waiting for the allocator'
  const endpoint = {
    ports,
    allocatedFor: service.specVersion,
    ...(virtualAddresses.length === 0 ? {} : { virtualAddresses }),
    ...(networks.length === 0 ? {} : { networks }),
  }
  plan.put('services', { ...service, endpoint })
  return undefined
}

/** One address on each overlay network; a text says why that is not possible. */
function settleAddresses(
  plan: Plan,
  service: Service,
  networks: readonly NetworkAttachment[],
): readonly VirtualAddress[] | string {
  if (service.spec.EndpointSpec?.Mode === 'dnsrr') return []
  const addresses: VirtualAddress[] = []
  for (const { networkId } of networks) {
    const network = plan.get('networks', networkId)
    if (network === undefined || !isOverlay(network)) continue
    if (network.subnet === undefined) return `network ${network.spec.Name}: no free address range`
    const held = service.endpoint?.virtualAddresses?.find((one) => one.networkId === networkId)
    const address = held?.address ?? freeAddressOn(network, serviceAddresses(plan, networkId))
    if (address === undefined) return `network ${network.spec.Name}: no free address`
    addresses.push({ networkId, address })
  }
  return addresses
}

function serviceAddresses(plan: Plan, networkId: string): Set<string> {
  const held = new Set<string>()
  for (const service of plan.list('services')) {
    for (const one of service.endpoint?.virtualAddresses ?? []) {
      if (one.networkId === networkId) held.add(one.address)
    }
  }
  return held
}
