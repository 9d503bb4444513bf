/**
 * Flows of datagrams that are cut off when a backend goes. Pure.
 *
 * IPVS gives a packet to another destination when its own is gone, but not while connection
 * tracking still knows the flow: then the packet vanishes. So what tracking knows is forgotten. TCP
 * needs none of it: a reset is what its clients get.
 * Source: `net/netfilter/ipvs/ip_vs_core.c`, `ip_vs_conn_uses_old_conntrack`.
 */
import type { Dropped } from '../nftables/difference.ts'
import type { Frontend } from '../nftables/placement.ts'
import { addressFamily } from '../ports.ts'
import type { VirtualServer } from '../ports.ts'
import type { Placement } from './placement.ts'

/** What flows led to before that is there no longer. */
export function droppedFlows(before: Placement, after: Placement | undefined): Dropped[] {
  const frontend = datagramFrontend(before.server)
  if (frontend === undefined) return []
  return [...before.service.destinations]
    .filter(([text]) => after?.service.destinations.has(text) !== true)
    .map(([, { key }]) => ({ frontend, target: { ...key }, onlyDatagrams: true }))
}

/** What the server's datagrams come to; undefined when it has none. */
function datagramFrontend({ protocol, address, port }: VirtualServer): Frontend | undefined {
  if (protocol === 'any') return { kind: 'vip', address }
  if (protocol !== 'udp') return undefined
  return { kind: 'port', family: addressFamily(address), protocol, port }
}
