/**
 * The load balancer port. Three drivers implement it: IPVS (kernel), nftables (kernel), userspace
 * proxy; all pass one conformance suite. A driver is told the whole wanted state, then what changes
 * in it, and makes it so.
 *
 * A server is of one address family, that of its address. What answers in both is two servers.
 */
import { isIPv6 } from 'node:net'
import type { SCHEDULERS } from '../store/service-labels.ts'

/** A family of addresses. */
export type AddressFamily = 'ipv4' | 'ipv6'

/** All of this node's addresses, in each family. */
export const ANY_ADDRESS = { ipv4: '0.0.0.0', ipv6: '::' } as const

/** The family of an address. */
export function addressFamily(address: string): AddressFamily {
  return isIPv6(address) ? 'ipv6' : 'ipv4'
}

/** Whether the address is of loopback, where no kernel sends packets on. */
export function isLoopbackAddress(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

/** One address that connections are spread to. */
export interface Backend {
  readonly taskId: string
  readonly nodeId: string
  /** Whether the task runs on this node. */
  readonly local: boolean
  /**
   * Address and port on the task's node; see `local` and `routed`. Of the other family than its
   * server's: no kernel goes there, userspace does.
   */
  readonly address: string
  readonly port: number
  /** Whether this node's kernel reaches `address`: local, or over the overlay. */
  readonly routed?: boolean
  /** 0 = draining: existing connections go on, no new ones. Below 65,536. */
  readonly weight: number
  /**
   * The weight is 0 because the link to its node is dead while another backend serves. What it has
   * not answered finds another when it asks again; what it has answered stays, for the link may
   * come back. One that drains otherwise lives, and may have an answer on its way.
   */
  readonly lost?: boolean
}

/** How a kernel driver picks a backend; others than IPVS take `wrr` for all but `mh`. */
export type Scheduler = (typeof SCHEDULERS)[number]

/** A published port, or a service's virtual address, and the replicas behind it. */
export interface VirtualServer {
  /**
   * `<service id>/<protocol>/<published port>` or `<service id>/<network id>`; of IPv6 with `/ipv6`
   * behind it.
   */
  readonly id: string
  /** `any`: a virtual address answers for every port of tcp, udp and sctp. */
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'any'
  /** Address to answer on; `0.0.0.0` or `::` = all of this node's, of that family alone. */
  readonly address: string
  /** 0 with protocol `any`: backends are given the client's port, their `port` is 0, too. */
  readonly port: number
  /** Default `wrr`. `mh` sends a client address to the same backend, on every node. */
  readonly scheduler?: Scheduler
  /** Connections to backends begin with a header that names the client: by userspace alone. */
  readonly proxyProtocol?: 'v2'
  readonly backends: readonly Backend[]
}

/** A virtual server that could not be made as wanted. */
export interface BalancerFault {
  readonly id: string
  readonly message: string
}

/** What differs from the servers that were wanted before. */
export interface ServerChange {
  /** New ones, and those that differ from the one of their id. */
  readonly set: readonly VirtualServer[]
  /** Ids of those that are wanted no more. */
  readonly removed: readonly string[]
}

/** Spreads connections. Implemented by `userspace/`, later `ipvs/` and `nftables/`. */
export interface LoadBalancer {
  readonly name: 'ipvs' | 'nftables' | 'userspace'
  /** Why this driver and not a better one, for `info`. */
  readonly reason: string
  /** Whether it can answer on virtual addresses (protocol `any`); else it is given none. */
  readonly hasVirtualAddresses: boolean
  /**
   * Makes `wanted` so. A backend that is gone gets no new connection from the moment this is
   * called, and its connections are closed. Faults are per server; the others still work.
   */
  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]>
  /**
   * The same as `apply` of what was wanted last (at first nothing) with this change, at a cost that
   * does not depend on what did not change; an empty one tries again what failed. The faults of all
   * servers. A call that rejected has changed what is wanted all the same.
   */
  change(change: ServerChange): Promise<readonly BalancerFault[]>
  close(): Promise<void>
}

/** Options of {@link RemoteDialer.dial}. */
export interface DialOptions {
  readonly signal: AbortSignal
  /** Default `tcp`. With `udp` the connection carries frames of datagrams, in both directions. */
  readonly protocol?: 'tcp' | 'udp'
}

/** How the userspace driver reaches a task on another node; `node.ts` builds it from the mesh. */
export interface RemoteDialer {
  /** Opens a connection to `port` of the task on its node. */
  dial(backend: Backend, options: DialOptions): Promise<RemoteConnection>
}

/** A byte connection to a remote task; same shape as the mesh's duplex stream. */
export interface RemoteConnection {
  readonly source: AsyncIterable<Uint8Array>
  write(chunk: Uint8Array): Promise<void>
  end(): Promise<void>
  abort(reason: Error): void
}
