/**
 * What a service answers on in IPv6, from what it answers on in IPv4. Pure.
 *
 * Nothing is allocated: an address of the overlay stands for one of IPv6, the cluster's prefix and
 * the IPv4 address behind it (decision 0006). Tasks and virtual addresses have theirs where a
 * network of the task has IPv6.
 *
 * A published port answers in IPv6 on every node. Where all replicas that serve have IPv6 addresses
 * the kernel takes it there, and they see the client's own address; else userspace does, to their
 * IPv4 addresses, so that programs that know no IPv6 are reached in it all the same.
 */
import { isIPv6 } from 'node:net'
import { hasIpv6, ipv6Of, ipv6PrefixOf, isIpv6Network } from '../store/ipv6.ts'
import type { Task } from '../store/objects.ts'
import type { StoreView } from '../store/view.ts'
import { ANY_ADDRESS, isLoopbackAddress } from './ports.ts'
import type { Backend, VirtualServer } from './ports.ts'

/** What ids of servers of IPv6 end with. */
const SUFFIX = '/ipv6'

/** Where twins are derived from. */
export interface TwinScene {
  readonly store: StoreView
  /** The service's tasks. */
  readonly tasks: readonly Task[]
}

/** A published port in IPv6; undefined: no driver could serve it. */
export function publishedInIpv6(
  scene: TwinScene,
  server: VirtualServer,
): VirtualServer | undefined {
  const backends = inIpv6(scene, server.backends)
  const isWhole = backends.every(({ address, weight }) => weight === 0 || isIPv6(address))
  // Userspace speaks no SCTP.
  if (!isWhole && server.protocol === 'sctp') return undefined
  const twin = { ...server, id: `${server.id}${SUFFIX}`, address: ANY_ADDRESS.ipv6 }
  return isWhole ? { ...twin, backends } : twin
}

/** A virtual address in IPv6; undefined: its network has none. */
export function virtualInIpv6(
  scene: TwinScene,
  server: VirtualServer,
  networkId: string,
): VirtualServer | undefined {
  const prefix = prefixOf(scene.store)
  if (prefix === undefined || !isIpv6Network(scene.store.get('networks', networkId)))
    return undefined
  const address = ipv6Of(prefix, server.address)
  const backends = inIpv6(scene, server.backends)
  return { ...server, id: `${server.id}${SUFFIX}`, address, backends }
}

/** The backends, by their IPv6 addresses where they have them. */
function inIpv6({ store, tasks }: TwinScene, backends: readonly Backend[]): readonly Backend[] {
  const prefix = prefixOf(store)
  if (prefix === undefined) return backends
  const able = new Set(tasks.filter((task) => hasIpv6(store, task)).map(({ id }) => id))
  return backends.map((backend) => {
    if (!able.has(backend.taskId) || isLoopbackAddress(backend.address)) return backend
    return { ...backend, address: ipv6Of(prefix, backend.address) }
  })
}

function prefixOf(store: StoreView): string | undefined {
  const cluster = store.cluster()
  return cluster === undefined ? undefined : ipv6PrefixOf(cluster.id)
}
