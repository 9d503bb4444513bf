/**
 * Rolling updates: replaces tasks whose template or ports differ from their service's spec, a few
 * slots at a time. The progress is read from the tasks themselves, so a new leader goes on where
 * the old one was; only delays and monitoring begin anew.
 *
 *   (none) ─dirty─► updating ─all new, monitored─► completed
 *                      │ failures over the ratio
 *                      ├─pause────► paused ─new spec─► (none)
 *                      └─rollback─► rollback_started ─► rollback_completed │ rollback_paused
 *
 * Source: swarmkit `manager/orchestrator/update/updater.go`, in its behaviour.
 */
import { isDeepStrictEqual } from 'node:util'
import { compareTaskStates, isTerminal, type Service, type Task } from '../store/objects.ts'
import type { TaskSpec, UpdateConfig } from '../store/spec.ts'
import { meetsConstraintTexts } from './constraints.ts'
import { isUnassigned, type Plan } from './plan.ts'
import { isAllocated } from './endpoints.ts'
import type { RevivalContext } from './revival.ts'
import { createTask, finishedTask, isLost, slotsOf, type Slot } from './slots.ts'

/** How long a new task is watched when the configuration does not say: 5 s. */
export const UPDATE_MONITOR_DEFAULT_MS = 5_000

const NANOSECONDS_PER_MS = 1_000_000

/** An update configuration with Docker's defaults filled in. */
interface Pace {
  readonly parallelism: number
  readonly delayMs: number
  readonly monitorMs: number
  readonly maxFailureRatio: number
  readonly failureAction: 'pause' | 'continue' | 'rollback'
  readonly order: 'stop-first' | 'start-first'
}

/** How far one slot is. */
interface SlotProgress {
  readonly slot: Slot
  readonly outdated: readonly Task[]
  readonly fresh: readonly Task[]
  readonly state: 'dirty' | 'busy' | 'done'
}

/** Takes the update of a service one step on. */
export function planUpdate(context: RevivalContext): void {
  const { plan, service } = context
  if (!isAllocated(service)) return
  const pace = paceOf(service)
  const slots = slotsOf(plan, service).filter((slot) => !isPaused(plan, slot))
  const progress = slots.map((slot) => progressOf(context, slot, pace))
  finishStartFirst(plan, progress)
  const dirty = progress.filter((one) => one.state === 'dirty')
  const busy = progress.filter((one) => one.state === 'busy')
  const state = service.updateStatus?.state
  if (dirty.length === 0 && state === undefined) return
  if (state === 'paused' || state === 'rollback_paused') return
  if (isUnderWay(state) && maybeFail(context, progress, pace)) return
  if (dirty.length > 0) {
    // What was paused or refilled late is brought up to date without a word (swarmkit G5).
    if (state === undefined) begin(plan, service)
    const limit = pace.parallelism === 0 ? dirty.length : pace.parallelism - busy.length
    for (const one of dirty.slice(0, Math.max(0, limit))) replaceSlot(context, one, pace)
  } else if (busy.length === 0 && isUnderWay(state)) {
    maybeComplete(context, progress, pace)
  }
}

/** A global service's slot on a paused node keeps what it has. */
function isPaused(plan: Plan, slot: Slot): boolean {
  return slot.nodeId !== '' && plan.get('nodes', slot.nodeId)?.spec.Availability === 'pause'
}

function paceOf(service: Service): Pace {
  const { UpdateConfig: update, RollbackConfig: rollback } = service.spec
  const rollingBack = service.updateStatus?.state.startsWith('rollback') === true
  const chosen: UpdateConfig = (rollingBack ? rollback : update) ?? { Parallelism: 1 }
  const monitorNs = chosen.Monitor ?? 0
  return {
    parallelism: chosen.Parallelism ?? 0,
    delayMs: (chosen.Delay ?? 0) / NANOSECONDS_PER_MS,
    monitorMs: monitorNs > 0 ? monitorNs / NANOSECONDS_PER_MS : UPDATE_MONITOR_DEFAULT_MS,
    maxFailureRatio: chosen.MaxFailureRatio ?? 0,
    failureAction: chosen.FailureAction ?? 'pause',
    order: chosen.Order ?? 'stop-first',
  }
}

function isUnderWay(state: string | undefined): boolean {
  return state === 'updating' || state === 'rollback_started'
}

function progressOf(context: RevivalContext, slot: Slot, pace: Pace): SlotProgress {
  const { plan, service } = context
  const holder = finishedTask(slot)
  const present = holder === undefined ? slot.live : [holder]
  const outdated = present.filter((task) => isDirty(plan, service, task))
  const fresh = present.filter((task) => !outdated.includes(task))
  const state = slotState(context, outdated, fresh, pace)
  return { slot, outdated, fresh, state }
}

function slotState(
  context: RevivalContext,
  outdated: readonly Task[],
  fresh: readonly Task[],
  pace: Pace,
): SlotProgress['state'] {
  if (outdated.length > 0) return fresh.length > 0 ? 'busy' : 'dirty'
  const { plan, service, sightings } = context
  for (const task of fresh) {
    if (task.specVersion !== service.specVersion || isTerminal(task.status.state)) continue
    if (task.status.state !== 'running') return 'busy'
    const readyMs = (sightings.runningMs(task.id) ?? sightings.beganMs) + pace.delayMs
    if (readyMs <= plan.moment.nowMs) continue
    plan.wake(service.id, readyMs)
    return 'busy'
  }
  return 'done'
}

/** Whether the task differs from what its service now asks for. */
export function isDirty(plan: Plan, service: Service, task: Task): boolean {
  if (task.specVersion === service.specVersion) return false
  if (isAllocated(service) && !hasEndpoint(task, service)) return true
  const template = service.spec.TaskTemplate
  if (isDeepStrictEqual(task.spec, template)) return false
  if (!isDeepStrictEqual(unplaced(task.spec), unplaced(template))) return true
  if (isUnassigned(task)) return true
  const node = plan.get('nodes', task.nodeId)
  return node === undefined || !meetsConstraintTexts(template.Placement?.Constraints, node)
}

/** Whether the task has the ports and is on the networks of its service. */
function hasEndpoint(task: Task, service: Service): boolean {
  if (!isDeepStrictEqual(task.ports, service.endpoint?.ports)) return false
  return isDeepStrictEqual(networkNames(task), networkNames(service.endpoint))
}

function networkNames(where: Pick<Task, 'networks'> | undefined): string[] {
  return (where?.networks ?? []).map(({ networkId, aliases }) => [networkId, ...aliases].join(' '))
}

function unplaced(spec: TaskSpec): Omit<TaskSpec, 'Placement'> {
  const { Placement: _placement, ...rest } = spec
  return rest
}

/** Where a new task runs beside an old one, the old one goes. */
function finishStartFirst(plan: Plan, progress: readonly SlotProgress[]): void {
  for (const { outdated, fresh } of progress) {
    if (!fresh.some((task) => task.status.state === 'running')) continue
    for (const task of outdated) if (plan.room()) plan.desire(task, 'shutdown')
  }
}

function begin(plan: Plan, service: Service): void {
  if (!plan.room()) return
  const current = plan.get('services', service.id) ?? service
  const { at } = plan.moment
  const updateStatus = { state: 'updating', startedAt: at, message: 'update in progress' } as const
  plan.put('services', { ...current, updateStatus })
}

function replaceSlot(context: RevivalContext, progress: SlotProgress, pace: Pace): void {
  const { plan, service } = context
  const { slot, outdated } = progress
  if (!plan.room(outdated.length + 1)) return
  const running = outdated.some((task) => !isUnassigned(task) && !isLost(plan, task))
  const startFirst = pace.order === 'start-first' && running
  const predecessor = outdated.at(-1)
  if (!startFirst) for (const task of outdated) plan.desire(task, 'shutdown')
  createTask(plan, service, {
    number: slot.number,
    nodeId: slot.nodeId,
    desiredState: startFirst || !running ? 'running' : 'ready',
    ...(predecessor === undefined ? {} : { predecessor }),
  })
}

/** Pauses or rolls back when too many new tasks failed. Returns whether it did. */
function maybeFail(
  context: RevivalContext,
  progress: readonly SlotProgress[],
  pace: Pace,
): boolean {
  if (pace.failureAction === 'continue' || progress.length === 0) return false
  const { plan, service } = context
  const failed = plan
    .tasksOfService(service.id)
    .filter((task) => isUpdateFailure(context, task, pace))
  const [first] = failed
  if (first === undefined || failed.length / progress.length <= pace.maxFailureRatio) return false
  if (!plan.room()) return true
  const reason = `failure or early termination of task ${first.id}`
  const rollingBack = service.updateStatus?.state === 'rollback_started'
  if (rollingBack) endUpdate(plan, service, 'rollback_paused', `rollback paused due to ${reason}`)
  else if (pace.failureAction === 'rollback' && service.previousSpec !== undefined) {
    const message = `update rolled back due to ${reason}`
    const updateStatus = { state: 'rollback_started', startedAt: plan.moment.at, message } as const
    plan.put('services', { ...service, spec: service.previousSpec, updateStatus })
  } else endUpdate(plan, service, 'paused', `update paused due to ${reason}`)
  return true
}

/** A new task that never ran, or ended while it was watched. */
function isUpdateFailure(context: RevivalContext, task: Task, pace: Pace): boolean {
  const { service, sightings } = context
  if (task.specVersion !== service.specVersion || sightings.wasInherited(task.id)) return false
  const { state } = task.status
  if (compareTaskStates(state, 'failed') < 0 || state === 'orphaned') return false
  const runningMs = sightings.runningMs(task.id)
  return runningMs === undefined || sightings.endedMs(task.id) - runningMs <= pace.monitorMs
}

function maybeComplete(
  context: RevivalContext,
  progress: readonly SlotProgress[],
  pace: Pace,
): void {
  const { plan, service, sightings } = context
  let dueMs = 0
  for (const { fresh } of progress) {
    for (const task of fresh) {
      if (task.specVersion !== service.specVersion || isTerminal(task.status.state)) continue
      if (task.status.state !== 'running') return
      const runningMs = sightings.runningMs(task.id) ?? sightings.beganMs
      dueMs = Math.max(dueMs, runningMs + pace.monitorMs)
    }
  }
  if (dueMs > plan.moment.nowMs) {
    plan.wake(service.id, dueMs)
    return
  }
  if (!plan.room()) return
  const rollingBack = service.updateStatus?.state === 'rollback_started'
  if (rollingBack) endUpdate(plan, service, 'rollback_completed', 'rollback completed')
  else endUpdate(plan, service, 'completed', 'update completed')
}

function endUpdate(
  plan: Plan,
  service: Service,
  state: 'paused' | 'completed' | 'rollback_paused' | 'rollback_completed',
  message: string,
): void {
  const { at } = plan.moment
  const startedAt = service.updateStatus?.startedAt ?? at
  const ended = state === 'completed' || state === 'rollback_completed'
  const updateStatus = { state, startedAt, message, ...(ended ? { completedAt: at } : {}) }
  plan.put('services', { ...service, updateStatus })
}
