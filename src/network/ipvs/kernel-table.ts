/**
 * A namespace's IPVS: reads the table, writes operations. Long work gives the event loop a turn
 * every few milliseconds.
 *
 * The table has no transactions and its dumps no mark of consistency, so there is one writer, which
 * compares what it believes with what is there, after each error above all.
 */
import type { Native } from '../netlink/native.ts'
import type { NetlinkRequest } from '../netlink/message-writer.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import { resolveFamily } from '../netlink/generic.ts'
import { IPVS_FAMILY } from '../netlink/ipvs-layout.ts'
import {
  deleteDestination,
  deleteService,
  dumpDestinations,
  dumpServices,
  getService,
  newDestination,
  newService,
  serviceText,
  setDestination,
  setService,
} from '../netlink/ipvs.ts'
import type { ServiceKey } from '../netlink/ipvs.ts'
import { decodeDestination, decodeService } from '../netlink/ipvs-reply.ts'
import type { KernelDestination, KernelService } from '../netlink/ipvs-reply.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { NetlinkError } from '../netlink/netlink-error.ts'
import { tableService } from './table.ts'
import type { TableDestination, TableOperation, TableService } from './table.ts'
import type { TimeSlices } from '../time-slices.ts'

/** Operations prepared and sent at a stretch, in about a millisecond each. */
const OPERATIONS_PER_BATCH = 96

/** An operation that the kernel refused. */
export interface OperationFailure {
  readonly operation: TableOperation
  readonly error: NetlinkError
}

/** A service of the kernel with its destinations and all counters. */
export interface ListedService {
  readonly service: KernelService
  readonly destinations: readonly KernelDestination[]
}

/** What to open. */
export interface KernelTableOptions {
  /** Path of the network namespace; without one this process's. */
  readonly netns?: string
}

/** What the table needs. */
export interface KernelTableComponents {
  readonly native: Native
  readonly slices: TimeSlices
}

/** A namespace's IPVS table. */
export class KernelTable implements AsyncDisposable {
  readonly #socket: NetlinkSocket
  /** The generic netlink family's number. */
  readonly #family: number
  readonly #slices: TimeSlices

  private constructor(socket: NetlinkSocket, family: number, slices: TimeSlices) {
    this.#socket = socket
    this.#family = family
    this.#slices = slices
  }

  /** Opens the table; loads IPVS's module. @throws NetlinkError ENOENT: the kernel has no IPVS */
  static async open(
    components: KernelTableComponents,
    options: KernelTableOptions = {},
  ): Promise<KernelTable> {
    const socket = await NetlinkSocket.open(components.native, { protocol: 'generic', ...options })
    try {
      const { id } = await resolveFamily(socket, IPVS_FAMILY)
      return new KernelTable(socket, id, components.slices)
    } catch (error) {
      socket.close()
      throw error
    }
  }

  /**
   * Reads the services that `isListed` names.
   *
   * @yields a service with its destinations
   * @throws NetlinkError
   */
  async *list(isListed: (key: ServiceKey) => boolean): AsyncGenerator<ListedService> {
    for (const message of await this.#socket.dump(dumpServices(this.#family))) {
      await this.#slices.maybeYield()
      const service = decodeService(message)
      if (!isListed(service.key)) continue
      const found = await this.#socket.dump(dumpDestinations(this.#family, service.key))
      yield { service, destinations: found.map(decodeDestination) }
    }
  }

  /** {@link list} as a table to compare with. @throws NetlinkError */
  async read(isListed: (key: ServiceKey) => boolean): Promise<Map<string, TableService>> {
    const table = new Map<string, TableService>()
    for await (const { service, destinations } of this.list(isListed)) {
      const { key, options } = service
      table.set(serviceText(key), tableService(key, options, destinations.map(tableDestination)))
    }
    return table
  }

  /** One service with its destinations; undefined when there is none. @throws NetlinkError */
  async readService(key: ServiceKey): Promise<TableService | undefined> {
    try {
      const [message] = await this.#socket.request(getService(this.#family, key))
      if (message === undefined) return undefined
      const { options } = decodeService(message)
      const found = await this.#socket.dump(dumpDestinations(this.#family, key))
      const destinations = found.map((each) => tableDestination(decodeDestination(each)))
      return tableService(key, options, destinations)
    } catch (error) {
      if (isNetlinkError(error, 'ESRCH')) return undefined
      throw error
    }
  }

  /**
   * Does the operations in their order; each stands for itself. @throws NetlinkError the outcome is
   * unknown: read the table
   */
  async write(operations: readonly TableOperation[]): Promise<OperationFailure[]> {
    const failures: OperationFailure[] = []
    for (let start = 0; start < operations.length; start += OPERATIONS_PER_BATCH) {
      const part = operations.slice(start, start + OPERATIONS_PER_BATCH)
      const requests = part.map((operation) => requestOf(this.#family, operation))
      for (const { index, error } of await this.#socket.batch(requests)) {
        const operation = part[index]
        if (operation !== undefined) failures.push({ operation, error })
      }
    }
    return failures
  }

  close(): void {
    this.#socket.close()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#socket[Symbol.asyncDispose]()
  }
}

/** What was wanted of a destination that the kernel has; `bypass` is never ours. */
function tableDestination(destination: KernelDestination): TableDestination {
  const { key, forwarding, weight, upperThreshold, lowerThreshold, tunnel } = destination
  const options = {
    forwarding: forwarding === 'bypass' ? 'local' : forwarding,
    weight,
    upperThreshold,
    lowerThreshold,
    ...(tunnel === undefined ? {} : { tunnel }),
  } as const
  return { key, options }
}

function requestOf(family: number, operation: TableOperation): NetlinkRequest {
  const { service } = operation
  switch (operation.type) {
    case 'newService':
      return newService(family, service)
    case 'setService':
      return setService(family, service)
    case 'deleteService':
      return deleteService(family, service.key)
    case 'newDestination':
      return newDestination(family, { service: service.key, ...operation.destination })
    case 'setDestination':
      return setDestination(family, { service: service.key, ...operation.destination })
    case 'deleteDestination':
      return deleteDestination(family, { service: service.key, key: operation.destination.key })
    default:
      return operation satisfies never
  }
}
