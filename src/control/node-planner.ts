/**
 * What the leader decides about nodes: whether each is ready or down, its container subnet, and
 * what becomes of tasks whose node is gone for good. Only changes are written (DESIGN.md decision
 * 4).
 */
import { isTerminal, type Node, type Task } from '../store/objects.ts'
import { takenRanges } from './networks.ts'
import { isUnassigned, type Plan } from './plan.ts'
import { cidrText, lowestFreeSubnet } from './subnets.ts'

/**
 * How long a node may be unreachable before its tasks are replaced, when the swarm says nothing
 * else: two of its heartbeat periods, 5 s each (`swarm update --dispatcher-heartbeat`).
 */
export const NODE_DOWN_GRACE_MS = 10_000
const HEARTBEATS_MISSED_MAX = 2
/** A link's end is seen within 2 s: no node is down sooner. */
const NODE_DOWN_GRACE_MIN_MS = 2_000
const NS_PER_MS = 1_000_000

/** A sign of life this young makes a node ready again. */
export const NODE_FRESH_MS = 2_000

/**
 * How long a node that somebody else marked down must stay reachable before it counts as ready
 * again. A node that leaves marks itself down while its links are still up and its tasks stop.
 */
export const NODE_RETURN_HOLD_MS = 30_000

/** How long a node may be down before its tasks are written off (swarmkit: 24 h). */
export const ORPHAN_AFTER_MS = 24 * 60 * 60 * 1000

/** When nodes were heard of last. */
export interface Reachability {
  /** Monotonic; now if the node is reachable; undefined if it never was. */
  lastReachableMs(nodeId: string): number | undefined
}

/** Judges nodes; one per leadership. */
export class NodePlanner {
  readonly #reachability: Reachability
  readonly #selfId: string
  /** Node id → when this leader began to wait for it. */
  readonly #since = new Map<string, number>()
  /** Node id → since when it has been down, and whether its links were down as well. */
  readonly #down = new Map<string, { readonly sinceMs: number; silent: boolean }>()

  constructor(reachability: Reachability, options: { readonly selfId: string }) {
    this.#reachability = reachability
    this.#selfId = options.selfId
  }

  /** Writes changed states and missing subnets into `plan`. */
  plan(plan: Plan): void {
    const nodes = plan.list('nodes')
    this.#forgetGone(nodes)
    for (const node of nodes) this.#judge(plan, node)
    allocateSubnets(plan)
  }

  #judge(plan: Plan, node: Node): void {
    const { nowMs } = plan.moment
    if (!this.#since.has(node.id)) this.#since.set(node.id, nowMs)
    const silentMs = this.#silentMs(node.id, nowMs)
    const fresh = silentMs <= NODE_FRESH_MS && this.#heard(node.id)
    const { state } = node.status
    const mayReturn = this.#mayReturn(node, fresh, nowMs)
    if (state !== 'ready' && fresh && mayReturn) {
      setState(plan, node, 'ready', '')
    } else if (state !== 'down' && silentMs > downGraceMs(plan)) {
      this.#down.set(node.id, { sinceMs: nowMs, silent: true })
      setState(plan, node, 'down', 'heartbeat failure')
    } else if (state === 'down' && silentMs > ORPHAN_AFTER_MS) {
      orphanTasks(plan, node.id)
    }
  }

  /** A node that is down returns once its links were down too, or after the hold. */
  #mayReturn(node: Node, fresh: boolean, nowMs: number): boolean {
    if (node.id === this.#selfId) return true
    const known = this.#down.get(node.id)
    if (node.status.state !== 'down') {
      // What this leader is about to write as down is not stored yet.
      if (known !== undefined && fresh) this.#down.delete(node.id)
      return true
    }
    const down = known ?? { sinceMs: nowMs, silent: false }
    if (!fresh) down.silent = true
    this.#down.set(node.id, down)
    return down.silent || nowMs - down.sinceMs >= NODE_RETURN_HOLD_MS
  }

  #heard(nodeId: string): boolean {
    return nodeId === this.#selfId || this.#reachability.lastReachableMs(nodeId) !== undefined
  }

  /** How long nothing was heard of the node; a new leader starts at zero. */
  #silentMs(nodeId: string, nowMs: number): number {
    if (nodeId === this.#selfId) return 0
    const heardMs = this.#reachability.lastReachableMs(nodeId)
    const sinceMs = this.#since.get(nodeId) ?? nowMs
    if (heardMs === undefined) return nowMs - sinceMs
    return nowMs - Math.max(heardMs, sinceMs)
  }

  #forgetGone(nodes: readonly Node[]): void {
    const present = new Set(nodes.map((node) => node.id))
    for (const nodeId of this.#since.keys()) {
      if (present.has(nodeId)) continue
      this.#since.delete(nodeId)
      this.#down.delete(nodeId)
    }
  }
}

function setState(plan: Plan, node: Node, state: 'ready' | 'down', message: string): void {
  if (plan.room()) plan.put('nodes', { ...node, status: { state, message } })
}

function downGraceMs(plan: Plan): number {
  const periodNs = plan.store.cluster()?.spec.Dispatcher?.HeartbeatPeriod ?? 0
  if (periodNs === 0) return NODE_DOWN_GRACE_MS
  return Math.max((HEARTBEATS_MISSED_MAX * periodNs) / NS_PER_MS, NODE_DOWN_GRACE_MIN_MS)
}

/** Gives nodes without a subnet the lowest free one, in order of id. */
export function allocateSubnets(plan: Plan): void {
  const cluster = plan.store.cluster()
  const nodes = plan.list('nodes')
  if (cluster === undefined || nodes.every((node) => node.subnet !== undefined)) return
  const taken = takenRanges(plan)
  for (const node of nodes) {
    if (node.subnet !== undefined) continue
    const subnet = lowestFreeSubnet(cluster.addressPools, cluster.subnetSize, taken)
    if (subnet === undefined || !plan.room()) return
    taken.push(subnet)
    plan.put('nodes', { ...node, subnet: cidrText(subnet) })
  }
}

/** Ends a task whose node will not report any more. */
export function orphanTask(plan: Plan, task: Task): void {
  if (!plan.room()) return
  plan.put('tasks', { ...task, status: plan.status('orphaned', 'node is gone') })
}

function orphanTasks(plan: Plan, nodeId: string): void {
  for (const task of plan.tasksOfNode(nodeId)) {
    if (isTerminal(task.status.state) || isUnassigned(task)) continue
    orphanTask(plan, task)
  }
}
