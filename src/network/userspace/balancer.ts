/**
 * The userspace driver of the load balancer port: works on every kernel and without privileges,
 * hides the client's address and costs two socket copies a byte.
 *
 * Invariants: `apply` changes the backends of every server before its first await, so from the very
 * call a backend that is gone gets no connection and has none. A port that cannot be opened is a
 * fault of that server and tried again at each `apply`; the others work.
 */
import { assert } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type { Backend, BalancerFault, LoadBalancer, RemoteDialer, VirtualServer } from '../ports.ts'
import type { Scheduling } from './backend-set.ts'
import type { Frontend, FrontendContext } from './frontend.ts'
import { ConnectionBudget, USERSPACE_LIMITS, connectionsMaxFor, openFilesMax } from './limits.ts'
import type { UserspaceLimits } from './limits.ts'
import { reachesItself } from './self-dial.ts'
import { TcpFrontend } from './tcp-frontend.ts'
import { UdpFrontend } from './udp-frontend.ts'

/** What the driver needs. */
export interface UserspaceComponents {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly dialer: RemoteDialer
}

/** Options of {@link UserspaceBalancer.create}. */
export interface UserspaceOptions extends Partial<UserspaceLimits> {
  /** Default `round-robin`. */
  readonly scheduling?: Scheduling
  /** Why this driver was chosen, for `info`. */
  readonly reason?: string
}

interface Entry {
  readonly frontend: Frontend
  readonly server: VirtualServer
}

/** Spreads connections in this process. */
export class UserspaceBalancer implements LoadBalancer {
  readonly name = 'userspace'
  readonly hasVirtualAddresses = false
  readonly reason: string
  readonly #context: FrontendContext
  /** By id of the virtual server. */
  readonly #entries = new Map<string, Entry>()
  readonly #closing = new Set<Promise<void>>()
  #closed = false

  /** Makes a driver that listens nowhere yet. */
  static create(
    components: UserspaceComponents,
    options: UserspaceOptions = {},
  ): UserspaceBalancer {
    return new UserspaceBalancer(components, options)
  }

  private constructor(components: UserspaceComponents, options: UserspaceOptions) {
    const { scheduling = 'round-robin', reason, ...given } = options
    const connectionsMax = connectionsMaxFor(openFilesMax())
    const limits = { ...USERSPACE_LIMITS, connectionsMax, ...given }
    const budget = new ConnectionBudget(limits.connectionsMax)
    this.reason = reason ?? 'needs neither kernel modules nor privileges'
    this.#context = { ...components, limits, scheduling, budget }
  }

  /** Proxied TCP connections open now. */
  get connections(): number {
    return this.#context.budget.taken
  }

  /** @throws SHUTTING_DOWN after `close` */
  async apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    if (this.#closed) throw new SwarmError('SHUTTING_DOWN', 'load balancer: is closed')
    const faults: BalancerFault[] = []
    const servers = wanted.map((server) => withoutSelfDials(server, wanted, faults))
    this.#retire(servers)
    const placed = servers.map((server) => this.#place(server, faults))
    const listening = placed.map(async (entry) => {
      const message = await entry?.frontend.listen()
      if (entry !== undefined && message !== undefined) {
        faults.push({ id: entry.server.id, message })
      }
    })
    await Promise.all(listening)
    return faults
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#retire([])
    await Promise.all(this.#closing)
  }

  /** Closes what is wanted no more, and what must listen elsewhere. */
  #retire(servers: readonly VirtualServer[]): void {
    const wanted = new Map(servers.map((server) => [server.id, server]))
    assert(wanted.size === servers.length, 'a virtual server is listed twice')
    for (const [id, entry] of this.#entries) {
      const server = wanted.get(id)
      if (server !== undefined && listensAlike(server, entry.server)) continue
      this.#entries.delete(id)
      const closing = entry.frontend.close().finally(() => this.#closing.delete(closing))
      this.#closing.add(closing)
    }
  }

  /** Makes or updates the frontend of `server`. */
  #place(server: VirtualServer, faults: BalancerFault[]): Entry | undefined {
    const known = this.#entries.get(server.id)?.frontend
    known?.update(server)
    const frontend = known ?? this.#newFrontend(server)
    if (frontend === undefined) {
      const where = `port ${server.port}/${server.protocol}`
      const message = `${where}: the userspace balancer speaks only tcp and udp`
      faults.push({ id: server.id, message })
      return undefined
    }
    const entry = { frontend, server }
    this.#entries.set(server.id, entry)
    return entry
  }

  #newFrontend(server: VirtualServer): Frontend | undefined {
    if (server.protocol === 'tcp') return new TcpFrontend(server, this.#context)
    if (server.protocol === 'udp') return new UdpFrontend(server, this.#context)
    server.protocol satisfies 'sctp' | 'any'
    return undefined
  }
}

function listensAlike(a: VirtualServer, b: VirtualServer): boolean {
  return a.protocol === b.protocol && a.address === b.address && a.port === b.port
}

function withoutSelfDials(
  server: VirtualServer,
  all: readonly VirtualServer[],
  faults: BalancerFault[],
): VirtualServer {
  const alike = all.filter((other) => other.protocol === server.protocol)
  const loops = (backend: Backend): boolean => reachesItself(backend, alike)
  const looping = server.backends.filter((backend) => loops(backend))
  if (looping.length === 0) return server
  for (const backend of looping) {
    const where = `${backend.address}:${backend.port}`
    const message = `task ${backend.taskId}: its address ${where} is a published port of this node`
    faults.push({ id: server.id, message })
  }
  return { ...server, backends: server.backends.filter((backend) => !loops(backend)) }
}
