/**
 * Filters: what makes a node unfit for a task. Each can explain itself in Docker's words. They are
 * asked in this order, and a node counts for the first that refuses it.
 * Source: swarmkit `manager/scheduler/filter.go` for order and texts.
 */
import type { Node, Service, Task } from '../store/objects.ts'
import { maybeParse, meetsConstraints, type Constraint } from './constraints.ts'
import { hostPortsOf, type NodeUsage } from './node-usage.ts'

/** What a group of equal tasks asks of a node; made once a group. */
export interface Demand {
  readonly task: Task
  /** Undefined when a constraint is invalid: no node meets it. */
  readonly constraints: readonly Constraint[] | undefined
  readonly hostPorts: readonly string[]
}

/** Reads a task's demand; ports are the service's, as they will be the task's. */
export function demandOf(task: Task, service: Service): Demand {
  const ports = service.endpoint?.ports ?? []
  return {
    task,
    constraints: maybeParse(task.spec.Placement?.Constraints ?? []),
    hostPorts: hostPortsOf({ ports }),
  }
}

/** One reason to refuse a node. */
export interface Filter {
  accepts(demand: Demand, usage: NodeUsage): boolean
  /** Docker's words for `nodes` refused nodes. */
  explain(nodes: number): string
}

const ready: Filter = {
  accepts: (_demand, { node }) =>
    node.status.state === 'ready' && node.spec.Availability === 'active',
  explain: (nodes) => `${counted(nodes)} not available for new tasks`,
}

const resources: Filter = {
  accepts({ task }, usage) {
    const wanted = task.spec.Resources?.Reservations
    const total = usage.node.description.resources
    return (
      fits(usage.nanoCpus, wanted?.NanoCPUs, total.nanoCpus) &&
      fits(usage.memoryBytes, wanted?.MemoryBytes, total.memoryBytes)
    )
  },
  explain: (nodes) => `insufficient resources on ${counted(nodes)}`,
}

/** A task that reserves nothing fits everywhere, also where others hold too much. */
function fits(held: number, wanted: number | undefined, total: number): boolean {
  return wanted === undefined || wanted === 0 || held + wanted <= total
}

const constraints: Filter = {
  accepts: (demand, { node }) =>
    demand.constraints !== undefined && meetsConstraints(demand.constraints, node),
  explain: (nodes) => `scheduling constraints not satisfied on ${counted(nodes)}`,
}

const platform: Filter = {
  accepts: ({ task }, { node }) => meetsPlatforms(task, node),
  explain: (nodes) => `unsupported platform on ${counted(nodes)}`,
}

const hostPort: Filter = {
  accepts: (demand, usage) => demand.hostPorts.every((key) => !usage.hostPorts.has(key)),
  explain: (nodes) => `host-mode port already in use on ${counted(nodes)}`,
}

const maxReplicas: Filter = {
  accepts({ task }, usage) {
    const most = task.spec.Placement?.MaxReplicas ?? 0
    return most === 0 || usage.countOf(task.serviceId) < most
  },
  explain: () => 'max replicas per node limit exceed',
}

const address: Filter = {
  accepts: (_demand, usage) => usage.hasRoom,
  explain: (nodes) => `no free container address on ${counted(nodes)}`,
}

/** What a node is, whatever runs on it. */
export const STATIC_FILTERS: readonly Filter[] = [ready, constraints, platform]

/** What changes with each task that a node takes. */
export const LOAD_FILTERS: readonly Filter[] = [resources, hostPort, maxReplicas, address]

const ALL_FILTERS: readonly Filter[] = [
  ready,
  resources,
  constraints,
  platform,
  hostPort,
  maxReplicas,
  address,
]

/** Whether all of `filters` accept the node. */
export function passes(filters: readonly Filter[], demand: Demand, usage: NodeUsage): boolean {
  return filters.every((filter) => filter.accepts(demand, usage))
}

/** Why no node is suitable: `no suitable node (…)`, most frequent reason first. */
export function explainRefusal(demand: Demand, usages: Iterable<NodeUsage>): string {
  const counts = new Map<Filter, number>()
  for (const usage of usages) {
    const refusing = ALL_FILTERS.find((filter) => !filter.accepts(demand, usage))
    if (refusing !== undefined) counts.set(refusing, (counts.get(refusing) ?? 0) + 1)
  }
  const reasons = [...counts]
    .toSorted(([, a], [, b]) => b - a)
    .map(([filter, nodes]) => filter.explain(nodes))
  return reasons.length === 0 ? 'no suitable node' : `no suitable node (${reasons.join('; ')})`
}

/**
 * Whether the node's platform is one of those that the image has; names differ, machines do not.
 */
export function meetsPlatforms(task: Pick<Task, 'spec'>, node: Node): boolean {
  const wanted = task.spec.Placement?.Platforms ?? []
  if (wanted.length === 0) return true
  const { os, architecture } = node.description.platform
  return wanted.some(
    (one) =>
      sameOrAny(one.OS, os) &&
      sameOrAny(canonical(one.Architecture ?? ''), canonical(architecture)),
  )
}

function sameOrAny(wanted: string | undefined, actual: string): boolean {
  return wanted === undefined || wanted === '' || wanted.toLowerCase() === actual.toLowerCase()
}

/** Go's names of architectures that the kernel calls otherwise. */
const GO_NAMES: ReadonlyMap<string, string> = new Map([
  ['x86_64', 'amd64'],
  ['aarch64', 'arm64'],
])

function canonical(architecture: string): string {
  return GO_NAMES.get(architecture) ?? architecture
}

function counted(nodes: number): string {
  return nodes === 1 ? '1 node' : `${nodes} nodes`
}
