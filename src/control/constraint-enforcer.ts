/**
 * The constraint enforcer: after a node changed, tasks on it that no longer fit are REJECTED, one
 * of the two observed states that the leader may write for an assigned task, and are to stop; their
 * slots are free at once. Goes by the service's current constraints; evicts for resources only as
 * many as needed; leaves nodes alone that are not active.
 * Source: swarmkit `manager/orchestrator/constraintenforcer/constraint_enforcer.go`, in its
 * behaviour.
 */
import { isTerminal, type Node, type Task } from '../store/objects.ts'
import { meetsConstraintTexts } from './constraints.ts'
import { isUnassigned, type Plan } from './plan.ts'
import { isWanted } from './slots.ts'

/** Rejects what no longer fits on `node`. */
export function enforceConstraints(plan: Plan, node: Node): void {
  if (node.spec.Availability !== 'active' || node.status.state === 'down') return
  const total = node.description.resources
  const held = { nanoCpus: 0, memoryBytes: 0 }
  for (const task of plan.tasksOfNode(node.id)) {
    if (!isWanted(task) || isUnassigned(task) || isTerminal(task.status.state)) continue
    const { nanoCpus, memoryBytes } = reservationOf(task)
    if (!meetsConstraintTexts(constraintsOf(plan, task), node)) {
      reject(plan, task, 'assigned node no longer meets constraints')
    } else if (
      exceeds(held.nanoCpus, nanoCpus, total.nanoCpus) ||
      exceeds(held.memoryBytes, memoryBytes, total.memoryBytes)
    ) {
      reject(plan, task, 'assigned node no longer has enough resources')
    } else {
      held.nanoCpus += nanoCpus
      held.memoryBytes += memoryBytes
    }
  }
}

function reservationOf(task: Task): { readonly nanoCpus: number; readonly memoryBytes: number } {
  const reserved = task.spec.Resources?.Reservations
  return { nanoCpus: reserved?.NanoCPUs ?? 0, memoryBytes: reserved?.MemoryBytes ?? 0 }
}

function exceeds(held: number, more: number, total: number): boolean {
  return more > 0 && held + more > total
}

function constraintsOf(plan: Plan, task: Task): readonly string[] | undefined {
  const template = plan.get('services', task.serviceId)?.spec.TaskTemplate ?? task.spec
  return template.Placement?.Constraints
}

function reject(plan: Plan, task: Task, reason: string): void {
  if (!plan.room()) return
  const status = plan.status('rejected', reason, reason)
  plan.put('tasks', { ...task, status, desiredState: 'shutdown' })
}
