/**
 * The userspace driver of the load balancer port: works on every kernel and without privileges,
 * hides the client's address and costs two socket copies a byte.
 *
 * Invariants: `apply` and `change` change the backends of every server before their first await, so
 * from the very call a backend that is gone gets no connection and has none. A port that cannot be
 * opened is a fault of that server and tried again at each call; the others work.
 */
import { SwarmError } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type {
  Backend,
  BalancerFault,
  LoadBalancer,
  RemoteDialer,
  ServerChange,
  VirtualServer,
} from '../ports.ts'
import { changeTo, takeOver } from '../server-change.ts'
import { StepSlices } from '../time-slices.ts'
import type { Scheduling } from './backend-set.ts'
import { READ_BYTES_MAX } from './direct-socket.ts'
import type { Frontend, FrontendContext } from './frontend.ts'
import { ConnectionBudget, USERSPACE_LIMITS, connectionsMaxFor, openFilesMax } from './limits.ts'
import type { UserspaceLimits } from './limits.ts'
import { SelfDials } from './self-dial.ts'
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

/** Ports that are opened without a pause: some system calls each. */
const LISTENS_AT_A_STRETCH = 16

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
  readonly #slices = new StepSlices(LISTENS_AT_A_STRETCH)
  /** By id, as told last. */
  readonly #wanted = new Map<string, VirtualServer>()
  /** By id of the virtual server. */
  readonly #entries = new Map<string, Entry>()
  readonly #selfDials = new SelfDials()
  /** What is wrong with servers, by id; apart from those that could not be bound. */
  readonly #faults = new Map<string, readonly string[]>()
  /** Servers whose port could not be opened, by id. */
  readonly #unbound = new Map<string, readonly string[]>()
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
    const readBuffer = new Uint8Array(READ_BYTES_MAX)
    this.#context = { ...components, limits, scheduling, budget, readBuffer }
  }

  /** Proxied TCP connections open now. */
  get connections(): number {
    return this.#context.budget.taken
  }

  /** @throws SHUTTING_DOWN after `close` */
  apply(wanted: readonly VirtualServer[]): Promise<readonly BalancerFault[]> {
    return this.change(changeTo(this.#wanted, wanted))
  }

  /** @throws SHUTTING_DOWN after `close` */
  async change(change: ServerChange): Promise<readonly BalancerFault[]> {
    if (this.#closed) throw new SwarmError('SHUTTING_DOWN', 'load balancer: is closed')
    const touched = this.#takeOver(change)
    this.#retire(touched)
    for (const id of touched) this.#place(id)
    const listening: Promise<void>[] = []
    // Also what could not be opened before.
    for (const id of new Set([...touched, ...this.#unbound.keys()])) {
      listening.push(this.#listen(id))
      await this.#slices.maybeYield()
    }
    await Promise.all(listening)
    return [...this.#faults, ...this.#unbound].flatMap(([id, messages]) =>
      messages.map((message) => ({ id, message })),
    )
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#takeOver({ set: [], removed: [...this.#wanted.keys()] })
    this.#retire([...this.#entries.keys()])
    await Promise.all(this.#closing)
  }

  /** Makes the change what is wanted; ids of the servers to look at. */
  #takeOver(change: ServerChange): ReadonlySet<string> {
    const before = takeOver(this.#wanted, change)
    const others = [...before].flatMap(([id, server]) =>
      this.#selfDials.replace(server, this.#wanted.get(id)),
    )
    return new Set([...before.keys(), ...others])
  }

  /** Closes what is wanted no more, and what must listen elsewhere. */
  #retire(ids: Iterable<string>): void {
    for (const id of ids) {
      const entry = this.#entries.get(id)
      const server = this.#wanted.get(id)
      if (entry === undefined || (server !== undefined && listensAlike(server, entry.server))) {
        continue
      }
      this.#entries.delete(id)
      const closing = entry.frontend.close().finally(() => this.#closing.delete(closing))
      this.#closing.add(closing)
    }
  }

  /** Makes or updates the frontend of a server. */
  #place(id: string): void {
    this.#faults.delete(id)
    this.#unbound.delete(id)
    const wanted = this.#wanted.get(id)
    if (wanted === undefined) return
    const server = this.#withoutSelfDials(wanted)
    const known = this.#entries.get(id)?.frontend
    known?.update(server)
    const frontend = known ?? this.#newFrontend(server)
    if (frontend === undefined) {
      const where = `port ${server.port}/${server.protocol}`
      this.#faults.set(id, [`${where}: the userspace balancer speaks only tcp and udp`])
      return
    }
    this.#entries.set(id, { frontend, server })
  }

  async #listen(id: string): Promise<void> {
    const entry = this.#entries.get(id)
    const message = await entry?.frontend.listen()
    // Changed meanwhile: whoever changed it listens.
    if (this.#entries.get(id)?.frontend !== entry?.frontend) return
    if (message === undefined) this.#unbound.delete(id)
    else this.#unbound.set(id, [message])
  }

  #withoutSelfDials(server: VirtualServer): VirtualServer {
    const loops = (backend: Backend): boolean => this.#selfDials.reaches(server, backend)
    const looping = server.backends.filter((backend) => loops(backend))
    if (looping.length === 0) return server
    const faults = looping.map(({ taskId, address, port }) => {
      return `task ${taskId}: its address ${address}:${port} is a published port of this node`
    })
    this.#faults.set(server.id, faults)
    return { ...server, backends: server.backends.filter((backend) => !loops(backend)) }
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
