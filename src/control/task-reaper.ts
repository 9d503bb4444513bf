/**
 * The task reaper: keeps the last few ended tasks of each slot for people to look at, and takes
 * away tasks that are to be removed once they have stopped or if no node ever had them.
 * Source: swarmkit `manager/orchestrator/taskreaper/task_reaper.go`, in its behaviour.
 */
import { isTerminal, type Service, type Task } from '../store/objects.ts'
import { isUnassigned, type Plan } from './plan.ts'
import { orphanTask } from './node-planner.ts'
import { finishedTask, isWanted, slotsOf } from './slots.ts'

/** Ended tasks kept in a slot when the cluster's spec does not say. */
export const TASK_HISTORY_DEFAULT = 5

/** Drops what `service` no longer needs on record. */
export function reapTasks(plan: Plan, service: Service): void {
  for (const task of plan.tasksOfService(service.id)) maybeEnd(plan, task)
  const kept = historyOf(plan, service)
  if (kept < 0) return
  for (const slot of slotsOf(plan, service)) {
    const holder = finishedTask(slot)
    const ended = slot.tasks.filter(
      (task) => !isWanted(task) && isTerminal(task.status.state) && task.id !== holder?.id,
    )
    const surplus = ended.slice(0, Math.max(0, ended.length - kept))
    for (const task of surplus) if (plan.room()) plan.remove('tasks', task.id)
  }
}

/** Tasks of a service that is gone: they stop, then they go. */
export function reapOrphans(plan: Plan, serviceId: string): void {
  for (const task of plan.tasksOfService(serviceId)) {
    if (!plan.room()) return
    plan.desire(task, 'remove')
    const current = plan.get('tasks', task.id)
    if (current !== undefined) maybeEnd(plan, current)
  }
}

/** Writes off a task whose node is gone for good; deletes what is to be removed. */
function maybeEnd(plan: Plan, task: Task): void {
  if (task.desiredState === 'remove') maybeDelete(plan, task)
  else if (isAbandoned(plan, task)) orphanTask(plan, task)
}

function maybeDelete(plan: Plan, task: Task): void {
  const gone = isTerminal(task.status.state) || isUnassigned(task) || isAbandoned(plan, task)
  if (gone && plan.room()) plan.remove('tasks', task.id)
}

function isAbandoned(plan: Plan, task: Task): boolean {
  if (isUnassigned(task) || isTerminal(task.status.state)) return false
  return plan.get('nodes', task.nodeId) === undefined
}

/** Ended tasks to keep in a slot; negative means all. Limited attempts are all kept. */
function historyOf(plan: Plan, service: Service): number {
  const cluster = plan.store.cluster()
  const limit = cluster?.spec.Orchestration?.TaskHistoryRetentionLimit ?? TASK_HISTORY_DEFAULT
  const attempts = service.spec.TaskTemplate.RestartPolicy?.MaxAttempts ?? 0
  return limit >= 0 && attempts > 0 ? attempts + 1 : limit
}
