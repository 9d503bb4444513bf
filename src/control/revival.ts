/**
 * Revival: what happens to a wanted task that cannot go on. A node restarts its own tasks
 * (DESIGN.md decision 8), so the leader acts only where the node cannot: its node is down, drained
 * or gone (a new task elsewhere, at once); the node refused it (a new task anywhere, by the restart
 * policy); the node is well but has not made the successor within a grace (the leader then makes
 * the same one). Also lets a replacement run when the task before it has stopped.
 */
import { isTerminal, type Service, type Task } from '../store/objects.ts'
import { restartDelayNs, successorTaskId, wantsRestart } from '../store/restart-policy.ts'
import type { Plan } from './plan.ts'
import type { Sightings } from './sightings.ts'
import { createTask, hasStopped, isLost, type Slot } from './slots.ts'

/** How long beyond the policy's delay a healthy node may take to restart its own task. */
export const LEADER_RESTART_GRACE_MS = 15_000

/** How long a replacement waits for the task before it to stop (swarmkit: 1 minute). */
export const OLD_TASK_WAIT_MS = 60_000

const NANOSECONDS_PER_MS = 1_000_000

/** What revival needs to know. */
export interface RevivalContext {
  readonly plan: Plan
  readonly service: Service
  readonly sightings: Sightings
}

/** Sees to every wanted task of `slot`. */
export function reviveSlot(context: RevivalContext, slot: Slot): void {
  for (const task of slot.live) {
    if (isLost(context.plan, task)) onLost(context, slot, task)
    else if (isTerminal(task.status.state)) onEnded(context, slot, task)
    else if (task.desiredState === 'ready') maybeRun(context, slot, task)
  }
}

function onLost(context: RevivalContext, slot: Slot, task: Task): void {
  const { plan, service } = context
  if (!plan.room(2)) return
  plan.desire(task, 'shutdown')
  const ended = isTerminal(task.status.state)
  if (ended && !wantsRestart(task)) return
  // A global slot is its node's: nothing replaces its task elsewhere.
  if (slot.nodeId !== '' || !isLastWanted(slot, task)) return
  const attempt = ended ? task.attempt + 1 : task.attempt
  const { number, nodeId } = slot
  createTask(plan, service, { number, nodeId, desiredState: 'running', predecessor: task, attempt })
}

function onEnded(context: RevivalContext, slot: Slot, task: Task): void {
  const { plan, service, sightings } = context
  if (!wantsRestart(task)) {
    if (plan.room()) plan.desire(task, 'shutdown')
    return
  }
  const refused = task.status.state === 'rejected' || task.nodeId === ''
  const delayMs = restartDelayNs(task.spec.RestartPolicy) / NANOSECONDS_PER_MS
  const dueMs = sightings.endedMs(task.id) + delayMs + (refused ? 0 : LEADER_RESTART_GRACE_MS)
  if (dueMs > plan.moment.nowMs) {
    plan.wake(service.id, dueMs)
    return
  }
  if (!plan.room(2)) return
  plan.desire(task, 'shutdown')
  if (!isLastWanted(slot, task)) return
  if (refused) {
    const { number, nodeId } = slot
    const attempt = task.attempt + 1
    createTask(plan, service, {
      number,
      nodeId,
      desiredState: 'running',
      predecessor: task,
      attempt,
    })
  } else {
    succeedOnNode(plan, task)
  }
}

/** The successor that the node should have made itself: same id, spec, node and address. */
function succeedOnNode(plan: Plan, task: Task): void {
  const id = successorTaskId(task.id)
  if (plan.get('tasks', id) !== undefined) return
  const { meta: _meta, restartDelay: _restartDelay, ...inherited } = task
  plan.createTask({
    ...inherited,
    id,
    desiredState: 'running',
    status: plan.status('assigned', 'restarted by the leader'),
    predecessor: task.id,
    attempt: task.attempt + 1,
  })
}

/** Lets a task with desired state READY run once all older ones in its slot have stopped. */
function maybeRun(context: RevivalContext, slot: Slot, task: Task): void {
  const { plan, service, sightings } = context
  const older = slot.tasks.slice(0, slot.tasks.indexOf(task))
  const deadlineMs = sightings.knownMs(task.id) + OLD_TASK_WAIT_MS
  const waiting = older.some((other) => !hasStopped(plan, other))
  if (waiting && plan.moment.nowMs < deadlineMs) {
    plan.wake(service.id, deadlineMs)
    return
  }
  if (plan.room()) plan.desire(task, 'running')
}

/** Whether `task` is the newest wanted one of its slot, so that its successor is due. */
function isLastWanted(slot: Slot, task: Task): boolean {
  return slot.live.at(-1)?.id === task.id
}
