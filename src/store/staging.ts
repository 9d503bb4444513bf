/**
 * A transaction under way: reads see its own writes, nothing else sees them until `Store` commits
 * the whole. Throws SwarmError at the first rule that an action breaks; the store is then
 * untouched.
 */
import { isDeepStrictEqual } from 'node:util'
import { SwarmError } from '../base/errors.ts'
import { compareTaskStates, type Meta, type Node, type Service, type TableName } from './objects.ts'
import type { Tables, Task } from './objects.ts'
import type { Draft } from './transaction.ts'
import type { Change } from './view.ts'

/** Where staging reads what it has not written itself. */
export interface StagingSource {
  get<T extends TableName>(table: T, id: string): Tables[T] | undefined
  list<T extends TableName>(table: T): readonly Tables[T][]
  /** Id of the object with that unique key, if any. */
  uniqueHolder(table: TableName, key: string): string | undefined
}

/** The entry that a transaction stands in. */
export interface EntryStamp {
  readonly index: number
  /** Proposer's wall clock, RFC 3339. */
  readonly at: string
}

type Staged = { [T in TableName]: Map<string, Tables[T] | undefined> }

/** What must be unique among objects of a table, and how a refusal names it. */
const UNIQUE: {
  readonly [T in TableName]?: {
    readonly keyOf: (object: Tables[T]) => string
    readonly refusal: (object: Tables[T]) => string
  }
} = {
  networks: {
    keyOf: (network) => network.spec.Name,
    refusal: (network) => `network with name ${network.spec.Name} already exists`,
  },
  services: {
    keyOf: (service) => service.spec.Name,
    refusal: (service) => `service "${service.spec.Name}": name is taken`,
  },
  nodes: {
    keyOf: (node) => node.peerId,
    refusal: (node) => `node ${node.id}: peer id ${node.peerId} is taken`,
  },
}

/** What the state machine adds to, or refuses of, an object that replaces `before`. */
const COMPLETE: {
  readonly [T in TableName]: (object: Tables[T], before: Tables[T] | undefined) => Tables[T]
} = {
  cluster: (cluster) => cluster,
  nodes: (node) => node,
  networks: (network) => network,
  services: versioned,
  tasks: forwardOnly,
}

/** The writes of one transaction. */
export class Staging {
  readonly #source: StagingSource
  readonly stamp: EntryStamp
  readonly #staged: Staged = {
    cluster: new Map(),
    nodes: new Map(),
    networks: new Map(),
    services: new Map(),
    tasks: new Map(),
  }

  constructor(source: StagingSource, stamp: EntryStamp) {
    this.#source = source
    this.stamp = stamp
  }

  get<T extends TableName>(table: T, id: string): Tables[T] | undefined {
    const staged: Map<string, Tables[T] | undefined> = this.#staged[table]
    return staged.has(id) ? staged.get(id) : this.#source.get(table, id)
  }

  /** @throws ALREADY_EXISTS, FAILED_PRECONDITION */
  create<T extends TableName>(table: T, draft: Draft<Tables[T]>): void {
    const id = draft.id
    if (this.get(table, id) !== undefined) {
      throw new SwarmError('ALREADY_EXISTS', `${table} ${id}: the object exists`)
    }
    const { index, at } = this.stamp
    const meta = { version: index, createdVersion: index, createdAt: at, updatedAt: at }
    this.#put(table, draft, meta)
  }

  /** @throws NOT_FOUND, OUT_OF_SEQUENCE, FAILED_PRECONDITION */
  update<T extends TableName>(table: T, draft: Draft<Tables[T]>, version: number): void {
    const before = this.expect(table, draft.id, version)
    this.write(table, draft, before.meta)
  }

  /** Writes `draft` over the object that `meta` came from, without a version check. */
  write<T extends TableName>(table: T, draft: Draft<Tables[T]>, meta: Meta): void {
    const { index, at } = this.stamp
    this.#put(table, draft, { ...meta, version: index, updatedAt: at })
  }

  /** @throws NOT_FOUND, OUT_OF_SEQUENCE */
  remove(table: TableName, id: string, version: number | undefined): void {
    this.expect(table, id, version)
    this.#staged[table].set(id, undefined)
  }

  /** The object, which must exist and have `version` if one is given. */
  expect<T extends TableName>(table: T, id: string, version?: number): Tables[T] {
    const object = this.get(table, id)
    if (object === undefined) throw new SwarmError('NOT_FOUND', `${table} ${id}: not found`)
    if (version !== undefined && object.meta.version !== version) {
      throw new SwarmError('OUT_OF_SEQUENCE', `${table} ${id}: update out of sequence`)
    }
    return object
  }

  /**
   * What changed, in order of tables and writing.
   * @throws ALREADY_EXISTS for a key taken twice, FAILED_PRECONDITION for the last manager's end
   */
  finish(): Change[] {
    this.#checkManagers()
    this.#checkUnique('nodes')
    this.#checkUnique('networks')
    this.#checkUnique('services')
    return [
      ...this.#changesOf('cluster'),
      ...this.#changesOf('nodes'),
      ...this.#changesOf('networks'),
      ...this.#changesOf('services'),
      ...this.#changesOf('tasks'),
    ]
  }

  #put<T extends TableName>(table: T, draft: Draft<Tables[T]>, meta: Meta): void {
    const before = this.get(table, draft.id)
    // The one place where a draft becomes an object of its table.
    const object = { ...draft, meta: Object.freeze(meta) } as unknown as Tables[T]
    const complete = COMPLETE[table](object, before)
    Object.freeze(complete)
    const staged: Map<string, Tables[T] | undefined> = this.#staged[table]
    staged.set(draft.id, complete)
  }

  #changesOf<T extends TableName>(table: T): Change[] {
    const changes: Change[] = []
    for (const [id, after] of this.#staged[table]) {
      const before = this.#source.get(table, id)
      if (before === undefined && after === undefined) continue
      const sides = {
        ...(before === undefined ? {} : { before }),
        ...(after === undefined ? {} : { after }),
      }
      changes.push(Object.freeze({ table, id, ...sides }) as Change)
    }
    return changes
  }

  /** Two managers demoted at the same time, each seeing the other, would leave nobody in charge. */
  #checkManagers(): void {
    const staged = this.#staged.nodes
    const demotes = [...staged].some(
      ([id, node]) => isManager(this.#source.get('nodes', id)) && !isManager(node),
    )
    if (!demotes) return
    const kept = this.#source.list('nodes').some((node) => isManager(node) && !staged.has(node.id))
    if (kept || [...staged.values()].some(isManager)) return
    throw new SwarmError(
      'FAILED_PRECONDITION',
      'attempting to demote the last manager of the swarm',
    )
  }

  #checkUnique<T extends TableName>(table: T): void {
    const rule = UNIQUE[table]
    if (rule === undefined) return
    const staged: Map<string, Tables[T] | undefined> = this.#staged[table]
    const holders = new Map<string, string>()
    for (const [id, object] of staged) {
      if (object === undefined) continue
      const key = rule.keyOf(object)
      const stored = this.#source.uniqueHolder(table, key)
      const rival = holders.get(key) ?? (stored !== undefined && staged.has(stored) ? id : stored)
      if (rival !== undefined && rival !== id) {
        throw new SwarmError('ALREADY_EXISTS', rule.refusal(object))
      }
      holders.set(key, id)
    }
  }
}

function isManager(node: Node | undefined): boolean {
  return node?.spec.Role === 'manager'
}

/** `service` with the spec version that its spec deserves; a new spec ends the old update. */
function versioned(service: Service, before: Service | undefined): Service {
  const rest = without(service, ['previousSpec', 'previousSpecVersion', 'updateStatus'])
  const { updateStatus, meta } = service
  if (before === undefined) return { ...rest, specVersion: meta.version }
  const changed = !isDeepStrictEqual(service.spec, before.spec)
  const stale = changed && isDeepStrictEqual(updateStatus, before.updateStatus)
  return {
    ...rest,
    ...(updateStatus === undefined || stale ? {} : { updateStatus }),
    ...(changed
      ? { previousSpec: before.spec, previousSpecVersion: before.specVersion }
      : previousOf(before)),
    specVersion: changed ? meta.version : before.specVersion,
  }
}

function previousOf(service: Service): Pick<Service, 'previousSpec' | 'previousSpecVersion'> {
  const { previousSpec, previousSpecVersion } = service
  return {
    ...(previousSpec === undefined ? {} : { previousSpec }),
    ...(previousSpecVersion === undefined ? {} : { previousSpecVersion }),
  }
}

/** Observed and desired states never go back. @throws FAILED_PRECONDITION */
function forwardOnly(task: Task, before: Task | undefined): Task {
  if (before === undefined) return task
  const observed = compareTaskStates(task.status.state, before.status.state)
  const desired = compareTaskStates(task.desiredState, before.desiredState)
  if (observed < 0 || desired < 0) {
    throw new SwarmError('FAILED_PRECONDITION', `task ${task.id}: states only go forward`)
  }
  return task
}

/** `object` without the fields in `names`. */
function without<T extends object, K extends keyof T & string>(
  object: T,
  names: readonly K[],
): Omit<T, K> {
  const entries = Object.entries(object).filter(([name]) => !names.some((other) => other === name))
  return Object.fromEntries(entries) as Omit<T, K>
}
