/**
 * Replicated services: as many held slots as replicas. Scaling up fills the lowest free numbers;
 * scaling down takes from the nodes with most copies first, then what does not run yet.
 * Source: swarmkit `manager/orchestrator/replicated/{services,slot}.go`, in their behaviour.
 */
import type { Service, Task } from '../store/objects.ts'
import type { Plan } from './plan.ts'
import { reviveSlot, type RevivalContext } from './revival.ts'
import { isDirty, planUpdate } from './rolling-update.ts'
import { replicasOf } from './service-mode.ts'
import { createTask, finishedTask, isHeld, slotsOf, type Slot } from './slots.ts'

/** Brings one replicated service closer to its spec. */
export function planReplicated(context: RevivalContext): void {
  const { plan, service } = context
  for (const slot of slotsOf(plan, service)) reviveSlot(context, slot)
  const held = slotsOf(plan, service).filter(isHeld)
  const replicas = replicasOf(service.spec)
  if (held.length > replicas) {
    for (const slot of surplusSlots(held, replicas)) removeSlot(plan, slot)
  } else if (held.length < replicas) {
    fillSlots(plan, service, held, replicas)
  }
  for (const slot of slotsOf(plan, service)) trimSlot(plan, service, slot)
  planUpdate(context)
}

function fillSlots(plan: Plan, service: Service, held: readonly Slot[], replicas: number): void {
  const numbers = new Set(held.map((slot) => slot.number))
  let missing = replicas - held.length
  for (let number = 1; missing > 0; number += 1) {
    if (numbers.has(number)) continue
    if (!plan.room()) return
    createTask(plan, service, { number, nodeId: '', desiredState: 'running' })
    missing -= 1
  }
}

/**
 * The slots to give up: of each node's copies the later ones first, those not running before
 * others.
 */
function surplusSlots(held: readonly Slot[], replicas: number): Slot[] {
  const runningFirst = held.toSorted(
    (a, b) => Number(isRunning(b)) - Number(isRunning(a)) || a.number - b.number,
  )
  const copies = new Map<string, number>()
  const ranked = runningFirst.map((slot, order) => {
    const nodeId = lastTask(slot)?.nodeId ?? ''
    const copy = copies.get(nodeId) ?? 0
    copies.set(nodeId, copy + 1)
    // What has no node yet has nothing to lose.
    return { slot, order, copy: nodeId === '' ? Number.MAX_SAFE_INTEGER : copy }
  })
  const kept = ranked.toSorted((a, b) => a.copy - b.copy || a.order - b.order)
  return kept.slice(replicas).map(({ slot }) => slot)
}

function isRunning(slot: Slot): boolean {
  return slot.live.some((task) => task.status.state === 'running')
}

function lastTask(slot: Slot): Task | undefined {
  return slot.live.at(-1) ?? finishedTask(slot)
}

function removeSlot(plan: Plan, slot: Slot): void {
  if (!plan.room(slot.tasks.length)) return
  for (const task of slot.tasks) plan.desire(task, 'remove')
}

/** Leaves one wanted task in a slot (but for an old one that an update is about to replace). */
export function trimSlot(plan: Plan, service: Service, slot: Slot): void {
  const fresh = slot.live.filter((task) => !isDirty(plan, service, task))
  if (fresh.length < 2) return
  const running = fresh.filter((task) => task.status.state === 'running')
  const kept = running.at(-1) ?? fresh.at(-1)
  for (const task of fresh) {
    if (task !== kept && plan.room()) plan.desire(task, 'shutdown')
  }
}
