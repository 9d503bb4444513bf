/**
 * The scheduler: gives each pending task a node and, with it, an address. Nodes that pass the
 * filters are ranked: fewer recent failures if somebody has many, the emptier branch of the spread
 * preferences, fewer tasks of the service, fewer tasks. Every tie is broken by id: the same input
 * gives the same output. A task that fits nowhere keeps pending and says why.
 * Source: swarmkit `manager/scheduler/{scheduler,nodeset,decision_tree}.go`, in their behaviour.
 */
import { compareTaskStates, type Service, type Task } from '../store/objects.ts'
import { nodeProperty } from './constraints.ts'
import {
  LOAD_FILTERS,
  STATIC_FILTERS,
  demandOf,
  explainRefusal,
  passes,
  type Demand,
} from './filters.ts'
import { measureNodes, type NodeUsage } from './node-usage.ts'
import { isUnassigned, type Plan } from './plan.ts'
import { isAllocated } from './endpoints.ts'
import { hasOwnStack, withTaskAddresses } from './networks.ts'
import type { Sightings } from './sightings.ts'

/** Recent failures that make a node the last choice (swarmkit `maxFailures`). */
export const NODE_FAILURES_MAX = 5

/**
 * Assigns what is pending in `plan`. `blocked` says why services of this pass have no endpoint;
 * those that it did not look at keep the reason that they have.
 */
export function scheduleTasks(
  plan: Plan,
  sightings: Sightings,
  blocked: ReadonlyMap<string, string>,
): void {
  const groups = pendingGroups(plan, sightings)
  if (groups.size === 0) return
  const usages = measureNodes(plan)
  for (const tasks of groups.values()) {
    const [first] = tasks
    const service = first === undefined ? undefined : plan.get('services', first.serviceId)
    if (service === undefined) continue
    const reason = blocked.get(service.id)
    if (isAllocated(service)) new GroupScheduler(plan, sightings, usages).place(service, tasks)
    else if (reason !== undefined) holdAll(plan, tasks, reason)
  }
}

/** Pending tasks by service and spec version, in order of creation. */
function pendingGroups(plan: Plan, sightings: Sightings): Map<string, Task[]> {
  const ids = new Set(sightings.pendingIds())
  for (const task of plan.touchedTasks()) ids.add(task.id)
  const groups = new Map<string, Task[]>()
  for (const id of ids) {
    const task = plan.get('tasks', id)
    if (task === undefined || !isUnassigned(task)) continue
    if (compareTaskStates(task.desiredState, 'running') > 0) continue
    const key = `${task.serviceId}/${task.specVersion}`
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [task])
    else group.push(task)
  }
  for (const group of groups.values()) group.sort((a, b) => a.slot - b.slot)
  return groups
}

function holdAll(plan: Plan, tasks: readonly Task[], reason: string): void {
  for (const task of tasks) hold(plan, task, reason)
}

/** Writes why the task waits, if that is news. */
function hold(plan: Plan, task: Task, reason: string): void {
  if (task.status.err === reason || !plan.room()) return
  plan.put('tasks', { ...task, status: plan.status('pending', 'pending task scheduling', reason) })
}

/** Places tasks that are alike. */
class GroupScheduler {
  readonly #plan: Plan
  readonly #sightings: Sightings
  readonly #usages: ReadonlyMap<string, NodeUsage>

  constructor(plan: Plan, sightings: Sightings, usages: ReadonlyMap<string, NodeUsage>) {
    this.#plan = plan
    this.#sightings = sightings
    this.#usages = usages
  }

  place(service: Service, tasks: readonly Task[]): void {
    const [first] = tasks
    if (first === undefined) return
    const demand = demandOf(first, service)
    const fit = [...this.#usages.values()].filter((usage) => passes(STATIC_FILTERS, demand, usage))
    for (const task of tasks) {
      if (!this.#plan.room()) return
      const usage = this.#choose(demand, task, fit)
      if (usage === undefined) hold(this.#plan, task, this.#explain(demand, task))
      else this.#assign(service, task, usage)
    }
  }

  #choose(demand: Demand, task: Task, fit: readonly NodeUsage[]): NodeUsage | undefined {
    // Tasks of global services come with their node.
    const own = task.nodeId === '' ? fit : fit.filter((usage) => usage.node.id === task.nodeId)
    const able = own.filter((usage) => passes(LOAD_FILTERS, demand, usage))
    const branch = this.#emptiestBranch(task, fit, able)
    let best: NodeUsage | undefined
    for (const usage of branch) {
      if (best === undefined || this.#compare(task, usage, best) < 0) best = usage
    }
    return best
  }

  /**
   * Follows the spread preferences: at each level, the value with the fewest tasks of the service.
   */
  #emptiestBranch(
    task: Task,
    fit: readonly NodeUsage[],
    able: readonly NodeUsage[],
  ): readonly NodeUsage[] {
    let all = fit
    let chosen = able
    for (const preference of task.spec.Placement?.Preferences ?? []) {
      const descriptor = preference.Spread?.SpreadDescriptor
      if (descriptor === undefined || chosen.length === 0) continue
      const value = (usage: NodeUsage): string => nodeProperty(descriptor, usage.node) ?? ''
      const loads = new Map<string, number>()
      for (const usage of all) {
        const load = (loads.get(value(usage)) ?? 0) + usage.countOf(task.serviceId)
        loads.set(value(usage), load)
      }
      const open = [...new Set(chosen.map(value))].toSorted()
      const least = open.reduce((a, b) => ((loads.get(b) ?? 0) < (loads.get(a) ?? 0) ? b : a))
      all = all.filter((usage) => value(usage) === least)
      chosen = chosen.filter((usage) => value(usage) === least)
    }
    return chosen
  }

  /** Negative when `a` is the better node. */
  #compare(task: Task, a: NodeUsage, b: NodeUsage): number {
    const { nowMs } = this.#plan.moment
    const failuresA = this.#sightings.recentFailures(a.node.id, task, nowMs)
    const failuresB = this.#sightings.recentFailures(b.node.id, task, nowMs)
    const many = failuresA >= NODE_FAILURES_MAX || failuresB >= NODE_FAILURES_MAX
    if (many && failuresA !== failuresB) return failuresA - failuresB
    const ofService = a.countOf(task.serviceId) - b.countOf(task.serviceId)
    if (ofService !== 0) return ofService
    if (a.tasks !== b.tasks) return a.tasks - b.tasks
    return a.node.id < b.node.id ? -1 : 1
  }

  #assign(service: Service, task: Task, usage: NodeUsage): void {
    const { node } = usage
    const needsAddress = !hasOwnStack(service.endpoint?.networks)
    const networks = withTaskAddresses(this.#plan, service.endpoint?.networks ?? [])
    if (typeof networks === 'string') {
      hold(this.#plan, task, networks)
      return
    }
    const address = needsAddress
      ? usage.freeAddress(this.#sightings.lastAddress(node.id))
      : undefined
    if (address !== undefined) this.#sightings.noteAddress(node.id, address)
    const assigned: Task = {
      ...task,
      nodeId: node.id,
      ...(networks.length === 0 ? {} : { networks }),
      ports: service.endpoint?.ports ?? [],
      status: this.#plan.status('assigned', 'scheduler assigned task to node'),
      ...(address === undefined ? {} : { address }),
    }
    this.#plan.put('tasks', assigned)
    usage.add(assigned)
  }

  #explain(demand: Demand, task: Task): string {
    const own = this.#usages.get(task.nodeId)
    return explainRefusal(demand, own === undefined ? this.#usages.values() : [own])
  }
}
