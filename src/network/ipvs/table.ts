/**
 * A table of IPVS services and their destinations, as the kernel has it or should have it, and the
 * operations that lead from one to the other. Pure.
 *
 * Invariants of the operations for a service, in their order: it exists before its destinations are
 * touched; what comes is added before what goes is deleted, so a service that keeps a destination
 * never stands without one; what is the same is not touched, so no connection notices. What the
 * kernel adds by itself (flags, the type of a plain tunnel) does not count as a difference.
 * Source of the semantics: `net/netfilter/ipvs/ip_vs_ctl.c`.
 */
import type {
  DestinationKey,
  DestinationOptions,
  DestinationTunnel,
  Persistence,
  ServiceKey,
  ServiceOptions,
} from '../netlink/ipvs.ts'
import { endpointText, serviceText } from '../netlink/ipvs.ts'

/** A destination of a service. */
export interface TableDestination {
  readonly key: DestinationKey
  readonly options: DestinationOptions
}

/** A service with its destinations, by {@link destinationText}. */
export interface TableService {
  readonly key: ServiceKey
  readonly options: ServiceOptions
  readonly destinations: ReadonlyMap<string, TableDestination>
}

/** Services by `serviceText` of their key. */
export type IpvsTable = ReadonlyMap<string, TableService>

/** One step for the kernel. */
export type TableOperation =
  | { readonly type: 'newService' | 'setService' | 'deleteService'; readonly service: TableService }
  | {
      readonly type: 'newDestination' | 'setDestination' | 'deleteDestination'
      readonly service: TableService
      readonly destination: TableDestination
    }

/** A service with these destinations; of two with the same key the last one counts. */
export function tableService(
  key: ServiceKey,
  options: ServiceOptions,
  destinations: readonly TableDestination[],
): TableService {
  const byText = new Map(destinations.map((each) => [destinationText(each.key), each]))
  return { key, options, destinations: byText }
}

/** A table of these services. */
export function tableOf(services: readonly TableService[]): Map<string, TableService> {
  return new Map(services.map((service) => [serviceText(service.key), service]))
}

/** `10.32.1.7:8080`: one text a key. */
export function destinationText(key: DestinationKey): string {
  return endpointText(key.address, key.port)
}

/** What makes `wanted` of `current`. */
export function tableDifference(current: IpvsTable, wanted: IpvsTable): TableOperation[] {
  const operations: TableOperation[] = []
  for (const [text, service] of current) {
    if (!wanted.has(text)) operations.push(...serviceDifference(service, undefined))
  }
  for (const [text, service] of wanted) {
    operations.push(...serviceDifference(current.get(text), service))
  }
  return operations
}

/** What makes `wanted` of one service; absent = there is none, or none shall be. */
export function serviceDifference(
  current: TableService | undefined,
  wanted: TableService | undefined,
): TableOperation[] {
  if (wanted === undefined) {
    return current === undefined ? [] : [{ type: 'deleteService', service: current }]
  }
  const operations: TableOperation[] = []
  if (current === undefined) operations.push({ type: 'newService', service: wanted })
  else if (!sameService(current.options, wanted.options)) {
    operations.push({ type: 'setService', service: wanted })
  }
  for (const [text, destination] of wanted.destinations) {
    const known = current?.destinations.get(text)
    if (known === undefined) {
      operations.push({ type: 'newDestination', service: wanted, destination })
    } else if (!sameDestination(known.options, destination.options)) {
      operations.push({ type: 'setDestination', service: wanted, destination })
    }
  }
  for (const [text, destination] of current?.destinations ?? []) {
    if (wanted.destinations.has(text)) continue
    operations.push({ type: 'deleteDestination', service: wanted, destination })
  }
  return operations
}

function sameService(a: ServiceOptions, b: ServiceOptions): boolean {
  return (
    a.scheduler === b.scheduler &&
    a.onePacket === b.onePacket &&
    a.schedulerFallback === b.schedulerFallback &&
    a.schedulerPort === b.schedulerPort &&
    samePersistence(a.persistence, b.persistence)
  )
}

function samePersistence(a: Persistence | undefined, b: Persistence | undefined): boolean {
  return a?.timeoutSeconds === b?.timeoutSeconds && a?.prefixBits === b?.prefixBits
}

function sameDestination(a: DestinationOptions, b: DestinationOptions): boolean {
  return (
    a.forwarding === b.forwarding &&
    a.weight === b.weight &&
    a.upperThreshold === b.upperThreshold &&
    a.lowerThreshold === b.lowerThreshold &&
    sameTunnel(a, b)
  )
}

/** Newer kernels say `ipip` of a tunnel that nobody gave a type. */
const PLAIN_TUNNEL: DestinationTunnel = { type: 'ipip', port: 0, flags: 0 }

function sameTunnel(a: DestinationOptions, b: DestinationOptions): boolean {
  if (a.forwarding !== 'tunnel') return true
  const { tunnel: one = PLAIN_TUNNEL } = a
  const { tunnel: other = PLAIN_TUNNEL } = b
  return one.type === other.type && one.port === other.port && one.flags === other.flags
}
