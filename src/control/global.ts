/**
 * Global services: one task on each eligible node. A node that is drained, down or gone, or no
 * longer meets the constraints, loses its task; a paused node keeps what it has and gets nothing
 * new.
 * Source: swarmkit `manager/orchestrator/global/global.go`, in its behaviour.
 */
import type { Node, Service, Task } from '../store/objects.ts'
import { meetsConstraintTexts } from './constraints.ts'
import { meetsPlatforms } from './filters.ts'
import type { Plan } from './plan.ts'
import { trimSlot } from './replicated.ts'
import { reviveSlot, type RevivalContext } from './revival.ts'
import { planUpdate } from './rolling-update.ts'
import { createTask, isHeld, isUsable, slotsOf } from './slots.ts'

/** Brings one global service closer to its spec. */
export function planGlobal(context: RevivalContext): void {
  const { plan, service } = context
  const nodes = plan.list('nodes')
  const eligible = new Set(nodes.filter((node) => isEligible(service, node)).map(({ id }) => id))
  for (const slot of slotsOf(plan, service)) {
    if (eligible.has(slot.nodeId)) reviveSlot(context, slot)
    else dropSlot(plan, slot.live)
  }
  const held = new Set(
    slotsOf(plan, service)
      .filter(isHeld)
      .map((slot) => slot.nodeId),
  )
  for (const node of nodes) {
    if (!eligible.has(node.id) || held.has(node.id) || !takesNew(node)) continue
    if (!plan.room()) return
    createTask(plan, service, { number: 0, nodeId: node.id, desiredState: 'running' })
  }
  for (const slot of slotsOf(plan, service)) trimSlot(plan, service, slot)
  planUpdate(context)
}

/** Whether the node is to have a task of this global service. */
export function isEligible(service: Service, node: Node): boolean {
  const template = service.spec.TaskTemplate
  return (
    isUsable(node) &&
    meetsConstraintTexts(template.Placement?.Constraints, node) &&
    meetsPlatforms({ spec: template }, node)
  )
}

function takesNew(node: Node): boolean {
  return node.status.state === 'ready' && node.spec.Availability === 'active'
}

function dropSlot(plan: Plan, live: readonly Task[]): void {
  for (const task of live) if (plan.room()) plan.desire(task, 'shutdown')
}
