/**
 * What each node carries, for the scheduler: counted once a pass from all tasks, then kept up with
 * each assignment. A task holds its resources, host ports and address until it has ended, wanted or
 * not.
 */
import { compareTaskStates, isTerminal, type Node, type Task } from '../store/objects.ts'
import { isUnassigned, type Plan } from './plan.ts'
import { hostCount, nextAddress } from './subnets.ts'

/** One node and its load. */
export class NodeUsage {
  readonly node: Node
  /** Tasks that run or are to run. */
  tasks = 0
  nanoCpus = 0
  memoryBytes = 0
  /** Service id → its tasks that run or are to run. */
  readonly services = new Map<string, number>()
  /** `<protocol>/<port>` published on this host. */
  readonly hostPorts = new Set<string>()
  /** Addresses that the node's subnet has for tasks; undefined without a subnet. */
  readonly #capacity: number | undefined
  readonly #held = new Set<string>()
  readonly #recent = new Set<string>()

  constructor(node: Node) {
    this.node = node
    this.#capacity = node.subnet === undefined ? undefined : hostCount(node.subnet)
  }

  add(task: Task): void {
    const ended = isTerminal(task.status.state)
    const wanted = compareTaskStates(task.desiredState, 'running') <= 0
    if (task.address !== undefined) {
      // The node may restart an ended task that is still wanted, on its old address.
      if (ended && !wanted) this.#recent.add(task.address)
      else this.#held.add(task.address)
    }
    if (ended) return
    const reserved = task.spec.Resources?.Reservations
    this.nanoCpus += reserved?.NanoCPUs ?? 0
    this.memoryBytes += reserved?.MemoryBytes ?? 0
    for (const key of hostPortsOf(task)) this.hostPorts.add(key)
    if (!wanted) return
    this.tasks += 1
    this.services.set(task.serviceId, this.countOf(task.serviceId) + 1)
  }

  countOf(serviceId: string): number {
    return this.services.get(serviceId) ?? 0
  }

  /** Whether a task could get an address here, or needs none. */
  get hasRoom(): boolean {
    return this.#capacity === undefined || this.#held.size < this.#capacity
  }

  /** An address for a new task; undefined when the subnet is full (or there is none). */
  freeAddress(last: string | undefined): string | undefined {
    const { subnet } = this.node
    if (subnet === undefined) return undefined
    return nextAddress(subnet, { held: this.#held, recent: this.#recent, last })
  }
}

/** `<protocol>/<port>` of each port that the task publishes on its host. */
export function hostPortsOf(task: Pick<Task, 'ports'>): string[] {
  return task.ports
    .filter((port) => port.publishMode === 'host' && port.publishedPort !== 0)
    .map((port) => `${port.protocol}/${port.publishedPort}`)
}

/** The load of every node, as the plan has it so far. */
export function measureNodes(plan: Plan): Map<string, NodeUsage> {
  const usages = new Map<string, NodeUsage>()
  for (const node of plan.list('nodes')) usages.set(node.id, new NodeUsage(node))
  for (const task of plan.list('tasks')) {
    if (!isUnassigned(task)) usages.get(task.nodeId)?.add(task)
  }
  return usages
}
