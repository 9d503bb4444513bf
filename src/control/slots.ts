/**
 * Slots: the places of a service's tasks. A replicated service has numbered slots; a global one has
 * a slot for each node. A slot is *held* while some task in it is wanted, or its newest ended and
 * the restart policy wants no other.
 */
import {
  compareTaskStates,
  isTerminal,
  type Node,
  type Service,
  type Task,
} from '../store/objects.ts'
import { wantsRestart } from '../store/restart-policy.ts'
import { isUnassigned, type Plan } from './plan.ts'

/** Tasks of one place. */
export interface Slot {
  /** Number of the slot, or id of the node for a global service. */
  readonly key: string
  readonly number: number
  /** The node that the slot stands for; empty in a replicated service. */
  readonly nodeId: string
  /** Oldest first; those that are to be removed left out. */
  readonly tasks: readonly Task[]
  /** Those of `tasks` that are wanted. */
  readonly live: readonly Task[]
}

/** The slots of `service` that have any task, in order of number. */
export function slotsOf(plan: Plan, service: Service): Slot[] {
  const groups = new Map<string, Task[]>()
  for (const task of plan.tasksOfService(service.id)) {
    if (task.desiredState === 'remove') continue
    const key = task.slot === 0 ? task.nodeId : String(task.slot)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [task])
    else group.push(task)
  }
  const slots = [...groups].map(([key, tasks]) => slotOf(key, tasks))
  return slots.toSorted((a, b) => a.number - b.number || (a.key < b.key ? -1 : 1))
}

function slotOf(key: string, tasks: Task[]): Slot {
  const sorted = tasks.toSorted(byAge)
  const number = sorted[0]?.slot ?? 0
  return {
    key,
    number,
    nodeId: number === 0 ? key : '',
    tasks: sorted,
    live: sorted.filter(isWanted),
  }
}

function byAge(a: Task, b: Task): number {
  return (
    a.meta.createdVersion - b.meta.createdVersion || a.attempt - b.attempt || (a.id < b.id ? -1 : 1)
  )
}

/** Whether the task is to run (or is to run after a delay). */
export function isWanted(task: Task): boolean {
  return compareTaskStates(task.desiredState, 'running') <= 0
}

/** Whether the task ended by itself and nothing is to follow. */
export function isFinished(task: Task): boolean {
  const { state } = task.status
  const byItself = state === 'complete' || state === 'failed' || state === 'rejected'
  return byItself && !wantsRestart(task)
}

/** The task that keeps the slot although none is wanted: its newest, when it finished. */
export function finishedTask(slot: Slot): Task | undefined {
  const newest = slot.tasks.at(-1)
  if (slot.live.length > 0 || newest === undefined) return undefined
  return isFinished(newest) ? newest : undefined
}

/** Whether the slot needs no new task. */
export function isHeld(slot: Slot): boolean {
  return slot.live.length > 0 || finishedTask(slot) !== undefined
}

/** Whether the task's node can no longer be counted on: gone, down or drained. */
export function isLost(plan: Plan, task: Task): boolean {
  if (isUnassigned(task)) return false
  const node = plan.get('nodes', task.nodeId)
  return node === undefined || !isUsable(node)
}

/** Whether tasks may stay on the node. */
export function isUsable(node: Node): boolean {
  return node.status.state !== 'down' && node.spec.Availability !== 'drain'
}

/** Whether the task holds nothing any more, as far as can be known. */
export function hasStopped(plan: Plan, task: Task): boolean {
  if (isTerminal(task.status.state) || isUnassigned(task)) return true
  const node = plan.get('nodes', task.nodeId)
  return node === undefined || node.status.state === 'down'
}

/** What a new task needs beyond its service. */
export interface TaskSeed {
  readonly number: number
  readonly nodeId: string
  readonly desiredState: 'ready' | 'running'
  readonly predecessor?: Task
  readonly attempt?: number
}

/** A new pending task from the service's current spec. */
export function createTask(plan: Plan, service: Service, seed: TaskSeed): Task {
  return plan.createTask({
    id: plan.newId(),
    serviceId: service.id,
    slot: seed.number,
    nodeId: seed.nodeId,
    spec: service.spec.TaskTemplate,
    specVersion: service.specVersion,
    serviceName: service.spec.Name,
    desiredState: seed.desiredState,
    status: plan.status('pending', 'pending task scheduling'),
    ports: service.endpoint?.ports ?? [],
    attempt: seed.attempt ?? 0,
    ...(seed.predecessor === undefined ? {} : { predecessor: seed.predecessor.id }),
  })
}
