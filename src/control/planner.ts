/**
 * One pass over what is dirty, all planners in order: nodes, constraints, then each service (ports,
 * tasks, update, history), then the scheduler over everything that waits for a node. Synchronous
 * and deterministic: store, sightings, moment in; actions out.
 */
import type { Service } from '../store/objects.ts'
import { enforceConstraints } from './constraint-enforcer.ts'
import { allocateEndpoint } from './endpoints.ts'
import { planGlobal } from './global.ts'
import { allocateNetworks } from './networks.ts'
import type { NodePlanner } from './node-planner.ts'
import type { Plan } from './plan.ts'
import { planReplicated } from './replicated.ts'
import { scheduleTasks } from './scheduler.ts'
import { serviceMode } from './service-mode.ts'
import type { Sightings } from './sightings.ts'
import { reapOrphans, reapTasks } from './task-reaper.ts'

/** What may need work. */
export interface Dirty {
  readonly services: ReadonlySet<string>
  /** Nodes whose record changed. */
  readonly nodes: ReadonlySet<string>
}

/** Decides everything that `dirty` calls for. */
export function planPass(
  plan: Plan,
  dirty: Dirty,
  components: { readonly nodes: NodePlanner; readonly sightings: Sightings },
): void {
  components.nodes.plan(plan)
  allocateNetworks(plan)
  for (const nodeId of [...dirty.nodes].toSorted()) planNode(plan, nodeId)
  const blocked = new Map<string, string>()
  for (const serviceId of inOrder(plan, dirty.services)) {
    const reason = planService(plan, serviceId, components.sightings)
    if (reason !== undefined) blocked.set(serviceId, reason)
  }
  // What waits for a node can only be helped by a change, and changes leave dirt.
  if (dirty.services.size > 0 || dirty.nodes.size > 0) {
    scheduleTasks(plan, components.sightings, blocked)
  }
}

/** The dirty services, oldest first: of two that want one port, the older has it. */
function inOrder(plan: Plan, serviceIds: ReadonlySet<string>): string[] {
  const age = (id: string): number => plan.get('services', id)?.meta.createdVersion ?? 0
  return [...serviceIds].toSorted((a, b) => age(a) - age(b) || (a < b ? -1 : 1))
}

function planNode(plan: Plan, nodeId: string): void {
  const node = plan.get('nodes', nodeId)
  if (node !== undefined) enforceConstraints(plan, node)
}

/** Returns why the service's endpoint cannot be had, if so. */
function planService(plan: Plan, serviceId: string, sightings: Sightings): string | undefined {
  const service = plan.get('services', serviceId)
  if (service === undefined) {
    reapOrphans(plan, serviceId)
    return undefined
  }
  const blocked = allocateEndpoint(plan, service)
  const current = plan.get('services', serviceId) ?? service
  orchestrate(plan, current, sightings)
  reapTasks(plan, current)
  return blocked
}

function orchestrate(plan: Plan, service: Service, sightings: Sightings): void {
  switch (serviceMode(service.spec)) {
    case 'replicated':
      planReplicated({ plan, service, sightings })
      return
    case 'global':
      planGlobal({ plan, service, sightings })
      return
    case 'replicated-job':
    case 'global-job':
      // Refused by `commands.ts`; nothing runs for one that came another way.
      return
  }
}
