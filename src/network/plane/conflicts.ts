/**
 * Ranges of the cluster that this host already is in: its own network, a VPN, another cluster. Made
 * local, or refused to strangers, they would cut the host off; so they are left out and said. Pure.
 */
import { parseRange } from './names.ts'
import type { WantedPlane } from './wanted-plane.ts'

/** An address with its prefix, on a device that is not the plane's. */
export interface ForeignAddress {
  readonly device: string
  /** `192.168.1.7/24`; others than IPv4 are passed over. */
  readonly prefix: string
}

/** A range that cannot be used here. */
export interface Conflict {
  readonly range: string
  readonly fault: string
}

/** The wanted ranges that overlap what this host has. */
export function conflictsOf(wanted: WantedPlane, foreign: readonly ForeignAddress[]): Conflict[] {
  const taken = foreign
    .filter(({ prefix }) => !prefix.includes(':'))
    .map(({ device, prefix }) => ({ device, prefix, ...parseRange(prefix) }))
  return [...new Set([wanted.subnet, ...wanted.insideRanges])].flatMap((range) => {
    const { base, last } = parseRange(range)
    const rival = taken.find((one) => one.base <= last && base <= one.last)
    if (rival === undefined) return []
    const fault = `range ${range}: this host has ${rival.prefix} on ${rival.device}; choose another`
    return [{ range, fault }]
  })
}

/** The plane without some ranges; undefined when this node's own subnet is among them. */
export function withoutRanges(
  wanted: WantedPlane,
  ranges: readonly string[],
): WantedPlane | undefined {
  if (ranges.length === 0) return wanted
  const refused = new Set(ranges)
  if (refused.has(wanted.subnet)) return undefined
  return {
    ...wanted,
    virtualRanges: wanted.virtualRanges.filter((range) => !refused.has(range)),
    insideRanges: wanted.insideRanges.filter((range) => !refused.has(range)),
    peers: wanted.peers.filter(({ subnet }) => !refused.has(subnet)),
  }
}
