/**
 * This node's replica of the swarm's objects. Changes only by `applyTransaction`, in the order of
 * the Raft log: a transaction takes effect wholly or not at all, and the same way on every replica.
 * Objects are frozen, so whoever holds one holds a consistent value for ever.
 * Source: swarmkit `manager/state/store/memory.go` for the role; DESIGN.md "the one idea".
 */
import { isSwarmError, type SwarmError } from '../base/errors.ts'
import { performAction } from './actions.ts'
import type { Network, Node, Service, TableName, Tables, Task } from './objects.ts'
import { Staging } from './staging.ts'
import { Table } from './table.ts'
import { REQUEST_HISTORY_MAX, type Transaction, type TransactionResult } from './transaction.ts'
import type { Change, Commit, Indexes, StoreView } from './view.ts'

/** Key of the tasks' `slot` index. */
export function slotKey(task: Pick<Task, 'serviceId' | 'slot'>): string {
  return `${task.serviceId}/${task.slot}`
}

/** Everything a snapshot holds, captured at one index. */
export interface StoreImage {
  readonly index: number
  readonly tables: { readonly [T in TableName]: readonly Tables[T][] }
  /** Oldest first. */
  readonly requests: readonly (readonly [string, TransactionResult])[]
}

interface Waiter {
  readonly index: number
  readonly resolve: () => void
}

/** The replicated store. */
export class Store implements StoreView {
  #index = 0
  readonly #tables: { readonly [T in TableName]: Table<Tables[T]> } = {
    cluster: new Table({}),
    nodes: new Table<Node>({
      name: (node) => node.spec.Name ?? node.description.hostname,
      peerId: (node) => node.peerId,
    }),
    networks: new Table<Network>({ name: (network) => network.spec.Name }),
    services: new Table<Service>({ name: (service) => service.spec.Name }),
    tasks: new Table<Task>({
      serviceId: (task) => task.serviceId,
      nodeId: (task) => task.nodeId,
      slot: slotKey,
    }),
  }
  /** Request id → result, oldest first, at most REQUEST_HISTORY_MAX. */
  #requests = new Map<string, TransactionResult>()
  readonly #listeners = new Set<(commit: Commit) => void>()
  readonly #waiters = new Set<Waiter>()

  get index(): number {
    return this.#index
  }

  get<T extends TableName>(table: T, id: string): Tables[T] | undefined {
    return this.#table(table).get(id)
  }

  list<T extends TableName>(table: T): Tables[T][] {
    return [...this.#table(table).all()]
  }

  find<T extends TableName, I extends keyof Indexes[T] & string>(
    table: T,
    index: I,
    key: string,
  ): Tables[T][] {
    return this.#table(table).find(index, key)
  }

  findByIdPrefix<T extends TableName>(table: T, prefix: string): Tables[T][] {
    return this.#table(table)
      .all()
      .filter((object) => object.id.startsWith(prefix))
  }

  cluster(): Tables['cluster'] | undefined {
    return this.#tables.cluster.all()[0]
  }

  onCommit(listener: (commit: Commit) => void): () => void {
    // Each registration is its own, even of one function.
    const registered = (commit: Commit): void => listener(commit)
    this.#listeners.add(registered)
    return () => {
      this.#listeners.delete(registered)
    }
  }

  waitForIndex(index: number, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error)
    if (index <= this.#index) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters.delete(waiter)
        reject(signal?.reason as Error)
      }
      const waiter: Waiter = {
        index,
        resolve: () => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        },
      }
      this.#waiters.add(waiter)
      signal?.addEventListener('abort', onAbort, { once: true })
    })
  }

  /**
   * Applies the transaction of entry `index`; a request id seen before gives its first result
   * again.
   */
  applyTransaction(transaction: Transaction, index: number): TransactionResult {
    const known = this.#requests.get(transaction.requestId)
    if (known !== undefined) {
      this.#advance(index)
      return known
    }
    const { result, changes } = this.#attempt(transaction, index)
    this.#remember(transaction.requestId, result)
    for (const change of changes) this.#commit(change)
    this.#advance(index)
    if (changes.length > 0) this.#notify({ type: 'changes', index, changes })
    return result
  }

  /** Passes over entry `index`, which changes nothing. */
  skip(index: number): void {
    this.#advance(index)
  }

  /** All there is, now. The lists are never changed later. */
  image(): StoreImage {
    return {
      index: this.#index,
      tables: {
        cluster: this.#tables.cluster.all(),
        nodes: this.#tables.nodes.all(),
        networks: this.#tables.networks.all(),
        services: this.#tables.services.all(),
        tasks: this.#tables.tasks.all(),
      },
      requests: [...this.#requests],
    }
  }

  /** Replaces everything. */
  load(image: StoreImage): void {
    this.#loadTable('cluster', image)
    this.#loadTable('nodes', image)
    this.#loadTable('networks', image)
    this.#loadTable('services', image)
    this.#loadTable('tasks', image)
    this.#requests = new Map(image.requests)
    this.#index = image.index
    this.#wake()
    this.#notify({ type: 'restored', index: image.index })
  }

  #table<T extends TableName>(table: T): Table<Tables[T]> {
    return this.#tables[table]
  }

  #loadTable<T extends TableName>(name: T, image: StoreImage): void {
    const table = this.#table(name)
    table.clear()
    for (const object of image.tables[name]) table.put(object)
  }

  #attempt(
    transaction: Transaction,
    index: number,
  ): { readonly result: TransactionResult; readonly changes: readonly Change[] } {
    const source = {
      get: <T extends TableName>(table: T, id: string) => this.get(table, id),
      list: <T extends TableName>(table: T) => this.#table(table).all(),
      uniqueHolder: (table: TableName, key: string) => this.#uniqueHolder(table, key),
    }
    const staging = new Staging(source, { index, at: transaction.at })
    try {
      for (const action of transaction.actions) performAction(staging, action)
      return { result: Object.freeze({ ok: true, index }), changes: staging.finish() }
    } catch (error) {
      if (!isSwarmError(error)) throw error
      return { result: refused(index, error), changes: [] }
    }
  }

  #uniqueHolder(table: TableName, key: string): string | undefined {
    if (table === 'nodes') return this.#tables.nodes.find('peerId', key)[0]?.id
    if (table === 'networks') return this.#tables.networks.find('name', key)[0]?.id
    if (table === 'services') return this.#tables.services.find('name', key)[0]?.id
    return undefined
  }

  #commit(change: Change): void {
    switch (change.table) {
      case 'cluster':
        return commitTo(this.#tables.cluster, change)
      case 'nodes':
        return commitTo(this.#tables.nodes, change)
      case 'networks':
        return commitTo(this.#tables.networks, change)
      case 'services':
        return commitTo(this.#tables.services, change)
      case 'tasks':
        return commitTo(this.#tables.tasks, change)
      default:
        change satisfies never
    }
  }

  #remember(requestId: string, result: TransactionResult): void {
    this.#requests.set(requestId, result)
    if (this.#requests.size <= REQUEST_HISTORY_MAX) return
    const oldest = this.#requests.keys().next()
    if (oldest.done !== true) this.#requests.delete(oldest.value)
  }

  #advance(index: number): void {
    if (index <= this.#index) return
    this.#index = index
    this.#wake()
  }

  #wake(): void {
    for (const waiter of this.#waiters) {
      if (waiter.index > this.#index) continue
      this.#waiters.delete(waiter)
      waiter.resolve()
    }
  }

  #notify(commit: Commit): void {
    for (const listener of this.#listeners) listener(commit)
  }
}

/** The result of a transaction that broke a rule. */
export function refused(index: number, error: SwarmError): TransactionResult {
  return Object.freeze({ ok: false, index, code: error.code, message: error.message })
}

function commitTo<T extends Tables[TableName]>(
  table: Table<T>,
  change: { readonly id: string; readonly after?: T },
): void {
  if (change.after === undefined) table.remove(change.id)
  else table.put(change.after)
}
