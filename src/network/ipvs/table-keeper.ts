/**
 * Brings the kernel's table into line with the wanted services, and keeps a model of what the
 * kernel has of ours.
 *
 * Invariants: the model of a service is believed only while every operation on it since the last
 * reading succeeded. After a refusal that service is read again, after a lost answer the table, and
 * the next step computes what is left to do; nothing is repeated blindly. So a service that the
 * kernel refuses for good costs the others nothing. What others made is not in the model, so no
 * operation names it.
 */
import type { ServiceKey } from '../netlink/ipvs.ts'
import { serviceText } from '../netlink/ipvs.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import type { KernelTable, ListedService, OperationFailure } from './kernel-table.ts'
import { serviceDifference } from './table.ts'
import type { TableOperation, TableService } from './table.ts'
import type { TimeSlices } from '../time-slices.ts'
import type { WantedPlacements } from './wanted-placements.ts'

/** Readings after failures within one call: what fails three times fails for a reason. */
const ATTEMPTS_MAX = 3

/** What the keeper works with. */
export interface TableKeeperParts {
  readonly table: KernelTable
  readonly wanted: WantedPlacements
  readonly slices: TimeSlices
  /** Whether a service in the kernel may be changed and deleted. */
  readonly isOurs: (key: ServiceKey) => boolean
}

/** Why servers are not as wanted, by server id. */
export type Refusals = ReadonlyMap<string, string>

/** What {@link TableKeeper.bring} did. */
export interface CheckResult {
  /** How many operations were sent. */
  readonly repaired: number
  readonly refused: Refusals
}

/** Keeps the table. Calls must not overlap. */
export class TableKeeper {
  readonly #parts: TableKeeperParts
  /** What the kernel has of ours, by `serviceText`; undefined = to be read. */
  #known: Map<string, TableService> | undefined
  /** Services of the model that must be read, by `serviceText`. */
  readonly #doubtful = new Map<string, ServiceKey>()
  /** Services that changed since the kernel was brought into line. */
  readonly #due = new Set<string>()

  constructor(parts: TableKeeperParts) {
    this.#parts = parts
  }

  /** Remembers services that changed, until they are brought into line. */
  note(changed: ReadonlySet<string>): void {
    for (const text of changed) this.#due.add(text)
  }

  /** Brings what changed into line, or all when the table must be read. @throws NetlinkError */
  async bring(): Promise<CheckResult> {
    let repaired = 0
    let failures: readonly OperationFailure[] = []
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
      try {
        const operations = await this.#difference()
        repaired += operations.length
        failures = await this.#write(operations)
      } catch (error) {
        this.#known = undefined
        const isLost = isNetlinkError(error, 'ENOBUFS', 'ETIMEDOUT', 'EINTR')
        if (!isLost || attempt === ATTEMPTS_MAX) throw error
        continue
      }
      if (failures.length === 0) break
    }
    return { repaired, refused: this.#refusals(failures) }
  }

  /** Reads the table and brings all services into line. @throws NetlinkError */
  check(): Promise<CheckResult> {
    this.#known = undefined
    return this.bring()
  }

  /** Our services with all counters. @throws NetlinkError */
  list(): AsyncIterable<ListedService> {
    return this.#parts.table.list(this.#parts.isOurs)
  }

  close(): Promise<void> {
    return this.#parts.table[Symbol.asyncDispose]()
  }

  async #difference(): Promise<readonly TableOperation[]> {
    const { wanted, table, slices, isOurs } = this.#parts
    let texts: Iterable<string> = this.#due
    const known = this.#known ?? (await table.read(isOurs))
    if (this.#known === undefined) texts = new Set([...known.keys(), ...wanted.texts()])
    else await this.#readDoubtful(known)
    this.#known = known
    this.#doubtful.clear()
    const operations: TableOperation[] = []
    for (const text of texts) {
      operations.push(...serviceDifference(known.get(text), wanted.service(text)))
      await slices.maybeYield()
    }
    return operations
  }

  async #readDoubtful(known: Map<string, TableService>): Promise<void> {
    for (const [text, key] of this.#doubtful) {
      const service = await this.#parts.table.readService(key)
      if (service === undefined) known.delete(text)
      else known.set(text, service)
    }
  }

  async #write(operations: readonly TableOperation[]): Promise<readonly OperationFailure[]> {
    const known = this.#known
    // Not believed while it is being changed.
    this.#known = undefined
    const failures = await this.#parts.table.write(operations)
    if (known === undefined) return failures
    for (const { operation } of failures) {
      const { key } = operation.service
      this.#doubtful.set(serviceText(key), key)
    }
    for (const { key } of new Set(operations.map(({ service }) => service))) {
      const text = serviceText(key)
      const now = this.#parts.wanted.service(text)
      if (now === undefined) known.delete(text)
      else known.set(text, now)
    }
    this.#known = known
    this.#due.clear()
    for (const text of this.#doubtful.keys()) this.#due.add(text)
    return failures
  }

  #refusals(failures: readonly OperationFailure[]): Refusals {
    const refused = new Map<string, string>()
    for (const { operation, error } of failures) {
      const text = serviceText(operation.service.key)
      const id = this.#parts.wanted.serverOf(text) ?? text
      if (!refused.has(id)) refused.set(id, error.message)
    }
    return refused
  }
}
