/**
 * A plan: what one pass of the control plane wants to change. Planners read through it and see what
 * earlier planners of the same pass decided, so one pass, and one transaction, takes a new service
 * to assigned tasks. A plan never touches the store; `actions()` is what to propose.
 */
import { newIdentifier } from '../base/identifiers.ts'
import type { Random } from '../base/random.ts'
import type { TableName, Tables, Task, TaskState, TaskStatus } from '../store/objects.ts'
import { compareTaskStates } from '../store/objects.ts'
import { TRANSACTION_ACTIONS_MAX, type Action, type Draft } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'

/**
 * Most bytes of objects in one plan, by their JSON: under the limit of a transaction with a margin.
 */
export const PLAN_BYTES_MAX = 1024 * 1024

/** What a pass is made from, besides the store. */
export interface PlanMoment {
  /** Monotonic. */
  readonly nowMs: number
  /** Wall clock, RFC 3339; for display. */
  readonly at: string
  readonly random: Random
}

type Overlay = { readonly [T in TableName]: Map<string, Tables[T] | undefined> }

/** Creation order of objects that are not yet in the store: after all that are. */
const NOT_STORED = Number.MAX_SAFE_INTEGER

/** Wanted changes over a store. */
export class Plan {
  readonly store: StoreView
  readonly moment: PlanMoment
  readonly #overlay: Overlay = {
    cluster: new Map(),
    nodes: new Map(),
    networks: new Map(),
    services: new Map(),
    tasks: new Map(),
  }
  #changes = 0
  #bytes = 0
  #cut = false
  /** Service id → when to plan it again although nothing is committed; monotonic. */
  readonly #wakes = new Map<string, number>()

  constructor(store: StoreView, moment: PlanMoment) {
    this.store = store
    this.moment = moment
  }

  /** Whether something was left undone for lack of room: plan again after this one is applied. */
  get cut(): boolean {
    return this.#cut
  }

  get wakes(): ReadonlyMap<string, number> {
    return this.#wakes
  }

  get<T extends TableName>(table: T, id: string): Tables[T] | undefined {
    const overlay: Map<string, Tables[T] | undefined> = this.#overlay[table]
    return overlay.has(id) ? overlay.get(id) : this.store.get(table, id)
  }

  list<T extends TableName>(table: T): Tables[T][] {
    return this.#merge(table, this.store.list(table), () => true)
  }

  tasksOfService(serviceId: string): Task[] {
    const stored = this.store.find('tasks', 'serviceId', serviceId)
    return this.#merge('tasks', stored, (task) => task.serviceId === serviceId)
  }

  tasksOfNode(nodeId: string): Task[] {
    const stored = this.store.find('tasks', 'nodeId', nodeId)
    return this.#merge('tasks', stored, (task) => task.nodeId === nodeId)
  }

  /** Tasks that this plan has written so far. */
  touchedTasks(): Task[] {
    return [...this.#overlay.tasks.values()].filter((task) => task !== undefined)
  }

  /** Whether `changes` more objects fit; if not, remembers that the plan was cut. */
  room(changes = 1): boolean {
    const fits = this.#changes + changes <= TRANSACTION_ACTIONS_MAX && this.#bytes < PLAN_BYTES_MAX
    if (!fits) this.#cut = true
    return fits
  }

  /** Asks to plan `serviceId` again at `atMs`, unless it is planned sooner. */
  wake(serviceId: string, atMs: number): void {
    const known = this.#wakes.get(serviceId)
    if (known === undefined || atMs < known) this.#wakes.set(serviceId, atMs)
  }

  newId(): string {
    return newIdentifier(this.moment.random)
  }

  /** A status of this moment. */
  status(state: TaskState, message: string, err?: string): TaskStatus {
    const timestamp = this.moment.at
    return { state, timestamp, message, ...(err === undefined ? {} : { err }) }
  }

  createTask(draft: Draft<Task>): Task {
    const { at } = this.moment
    const meta = { version: 0, createdVersion: NOT_STORED, createdAt: at, updatedAt: at }
    const task: Task = { ...draft, meta }
    this.put('tasks', task)
    return task
  }

  put<T extends TableName>(table: T, object: Tables[T]): void {
    const overlay: Map<string, Tables[T] | undefined> = this.#overlay[table]
    if (!overlay.has(object.id)) {
      this.#changes += 1
      this.#bytes += weightOf(object)
    }
    overlay.set(object.id, object)
  }

  remove(table: TableName, id: string): void {
    if (!this.#overlay[table].has(id)) this.#changes += 1
    this.#overlay[table].set(id, undefined)
  }

  /** Sets the desired state if that is a step forward. A task that no node has is gone at once. */
  desire(task: Task, desiredState: TaskState): void {
    const current = this.get('tasks', task.id)
    if (current === undefined) return
    if (compareTaskStates(desiredState, 'running') > 0 && isUnassigned(current)) {
      this.remove('tasks', task.id)
      return
    }
    if (compareTaskStates(desiredState, current.desiredState) <= 0) return
    this.put('tasks', { ...current, desiredState })
  }

  /** What to propose. Wishes for tasks carry no version; everything else does. */
  actions(): Action[] {
    return [
      ...this.#actionsOf('nodes'),
      ...this.#actionsOf('networks'),
      ...this.#actionsOf('services'),
      ...this.#actionsOf('tasks'),
    ]
  }

  #actionsOf<T extends TableName>(table: T): Action[] {
    const actions: Action[] = []
    const overlay: Map<string, Tables[T] | undefined> = this.#overlay[table]
    for (const [id, object] of overlay) {
      const stored = this.store.get(table, id)
      if (object === undefined) {
        if (stored !== undefined) actions.push({ type: 'remove', table, id })
        continue
      }
      const { meta: _meta, ...draft } = object
      // One table's draft always matches one member of the union.
      if (stored === undefined) actions.push(createOf(table, draft))
      else actions.push(wishOf(object, stored) ?? updateOf(table, draft, stored.meta.version))
    }
    return actions
  }

  #merge<T extends TableName>(
    table: T,
    stored: readonly Tables[T][],
    belongs: (object: Tables[T]) => boolean,
  ): Tables[T][] {
    const overlay: Map<string, Tables[T] | undefined> = this.#overlay[table]
    if (overlay.size === 0) return [...stored]
    const merged: Tables[T][] = []
    for (const object of stored) {
      const current = overlay.has(object.id) ? overlay.get(object.id) : object
      if (current !== undefined && belongs(current)) merged.push(current)
    }
    const known = new Set(stored.map((object) => object.id))
    for (const object of overlay.values()) {
      if (object !== undefined && !known.has(object.id) && belongs(object)) merged.push(object)
    }
    return merged
  }
}

/** Whether no node has the task, so that nobody but the leader can end it. */
export function isUnassigned(task: Task): boolean {
  return compareTaskStates(task.status.state, 'assigned') < 0
}

function createOf(table: TableName, object: object): Action {
  return { type: 'create', table, object } as Action
}

function updateOf(table: TableName, object: object, version: number): Action {
  return { type: 'update', table, object, version } as Action
}

/** The action without a version when nothing but a task's desired state changed. */
function wishOf(object: Tables[TableName], stored: Tables[TableName]): Action | undefined {
  if (!('desiredState' in object) || !('desiredState' in stored)) return undefined
  const changed = Object.keys(object).filter(
    (name) => Reflect.get(object, name) !== Reflect.get(stored, name),
  )
  if (changed.length !== 1 || changed[0] !== 'desiredState') return undefined
  return { type: 'desireTask', id: object.id, desiredState: object.desiredState }
}

const SPEC_WEIGHTS = new WeakMap<object, number>()

/** Bytes of an object, roughly; specs are shared by many tasks and measured once. */
function weightOf(object: Tables[TableName]): number {
  const known = SPEC_WEIGHTS.get(object.spec)
  if (known !== undefined) return known
  const weight = JSON.stringify(object.spec).length
  SPEC_WEIGHTS.set(object.spec, weight)
  return weight
}
