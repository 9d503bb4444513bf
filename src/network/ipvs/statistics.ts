/** Counters of IPVS, by virtual server. Pure. */
import { serviceText } from '../netlink/ipvs.ts'
import type { IpvsStats, KernelDestination } from '../netlink/ipvs-reply.ts'
import type { ListedService } from './kernel-table.ts'
import type { WantedPlacements } from './wanted-placements.ts'

/** A server's counters in one address family. */
export interface ServerStatistics {
  /** The virtual server's id. */
  readonly id: string
  readonly family: 'ipv4' | 'ipv6'
  readonly totals: IpvsStats
  readonly backends: readonly BackendStatistics[]
}

/** A backend's counters. */
export interface BackendStatistics {
  readonly address: string
  readonly port: number
  readonly weight: number
  /** Connections that are established. */
  readonly active: number
  /** Those that end or wait for their end. */
  readonly inactive: number
  readonly totals: IpvsStats
}

/** The counters of a wanted server; undefined for any other service. */
export function serverStatistics(
  { service, destinations }: ListedService,
  wanted: WantedPlacements,
): ServerStatistics | undefined {
  const { key, stats: totals } = service
  const id = wanted.serverOf(serviceText(key))
  if (id === undefined || key.type !== 'mark') return undefined
  return { id, family: key.family, totals, backends: destinations.map(backendStatistics) }
}

function backendStatistics(destination: KernelDestination): BackendStatistics {
  const { key, weight, activeConnections, inactiveConnections, stats } = destination
  return {
    ...key,
    weight,
    active: activeConnections,
    inactive: inactiveConnections,
    totals: stats,
  }
}
