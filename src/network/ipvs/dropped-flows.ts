/**
 * Flows that are cut off when a backend goes, and connections that a lost one never answered. Pure.
 *
 * IPVS gives a packet to another destination when its own is gone, but not while connection
 * tracking still knows the flow: then the packet vanishes. So what tracking knows is forgotten. TCP
 * needs none of it when a backend goes: a reset is what its clients get.
 *
 * A client that repeats its first packet is given another destination when its own has weight 0
 * (`expire_nodest_conn` with `conn_reuse_mode`, Linux 5.9), but while tracking knows the connection
 * that packet is lost, and only the one after it is served: two or four seconds later. What the
 * client was answered is not touched. Flows of datagrams that came to a virtual address stay with a
 * lost destination until its node counts as down: there is nothing in them that begins anew.
 * Source: `net/netfilter/ipvs/ip_vs_core.c`, `ip_vs_in_hook`, `ip_vs_conn_uses_old_conntrack`.
 */
import { canonicalAddress } from '../netlink/address.ts'
import type { Dropped } from '../nftables/difference.ts'
import type { Frontend } from '../nftables/placement.ts'
import { addressFamily } from '../ports.ts'
import type { VirtualServer } from '../ports.ts'
import type { Placement } from './placement.ts'
import { destinationText } from './table.ts'
import type { TableDestination } from './table.ts'

/** What is to be forgotten of a server's connections. */
export function droppedFlows(before: Placement, after: Placement | undefined): Dropped[] {
  const frontend = frontendOf(before.server)
  const dropped: Dropped[] = []
  const lostBefore = lostTargets(before)
  const lost = lostTargets(after)
  for (const [text, { key }] of before.service.destinations) {
    // As the kernel's tracking writes it.
    const target = { ...key, address: canonicalAddress(key.address) }
    const isThere = after?.service.destinations.has(text) === true
    // Of what is gone only datagrams: see above.
    if (!isThere && hasDatagrams(frontend)) dropped.push({ frontend, target, why: 'draining' })
    if (lost.has(text) && !lostBefore.has(text)) dropped.push({ frontend, target, why: 'lost' })
  }
  return dropped
}

/** Destinations, as text, that take nothing new because their nodes cannot be reached. */
function lostTargets(placement: Placement | undefined): ReadonlySet<string> {
  const backends = placement?.server.backends.filter(({ lost }) => lost === true) ?? []
  const lost = new Set(backends.map(({ address, port }) => destinationText({ address, port })))
  const resting = [...(placement?.service.destinations ?? [])].filter(isResting)
  return new Set(resting.flatMap(([text]) => (lost.has(text) ? [text] : [])))
}

function isResting([, { options }]: readonly [string, TableDestination]): boolean {
  return options.weight === 0
}

function hasDatagrams(frontend: Frontend): boolean {
  return frontend.kind === 'vip' || frontend.protocol === 'udp'
}

/** What the server's packets come to. */
function frontendOf({ protocol, address, port }: VirtualServer): Frontend {
  if (protocol === 'any') return { kind: 'vip', address: canonicalAddress(address) }
  return { kind: 'port', family: addressFamily(address), protocol, port }
}
