/**
 * Before a task gets its stop signal: nobody is to lead new connections to it any more. How that is
 * found out is the network's (`network/drain/`); here stands for whom it matters, and from which
 * entry of the store on.
 *
 * That a task is to stop other nodes hear as this one does; that it is unhealthy they hear from
 * this one. A node without a link to any other neither tells nor waits for others.
 */
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import type { Service } from '../store/objects.ts'
import type { StoreView } from '../store/view.ts'
import type { TaskRecord } from './task-directory.ts'

/** Milliseconds that the cluster may take to hear that a task is unhealthy before it is stopped. */
const TELL_MS_MAX = 2_000
const TELL_POLL_MS = 20

/** All that lead connections to this node's tasks: its own balancers, and other nodes'. */
export interface Balancers {
  /** Whether another node can hear of anything now. */
  hasPeers(): boolean
  /**
   * Resolves when none leads new connections to a task that is to stop by the store's entry `index`
   * or an earlier one, or when that has taken too long. With reach `node` only this node does.
   * @throws the signal's reason
   */
  passed(
    index: number,
    wish: { readonly reach: 'node' | 'swarm'; readonly signal: AbortSignal },
  ): Promise<void>
}

/** What quiescing needs of the agent. */
export interface QuiesceParts {
  readonly clock: Clock
  readonly store: Pick<StoreView, 'index' | 'get'>
  /** Absent: nothing leads connections here. */
  readonly balancers?: Balancers
  readonly signal: AbortSignal
}

/** Lets the balancers pass a task by that is to stop. @throws the reason of `parts.signal` */
export async function quiesce(parts: QuiesceParts, record: () => TaskRecord): Promise<void> {
  const { clock, store, balancers, signal } = parts
  const reach = reachOf(record(), store)
  if (balancers === undefined || reach === 'nobody') return
  if (reach === 'swarm') {
    const deadlineMs = clock.monotonicMs() + TELL_MS_MAX
    while (isUntold(record()) && balancers.hasPeers() && clock.monotonicMs() < deadlineMs) {
      await delay(clock, TELL_POLL_MS, signal)
    }
  }
  await balancers.passed(record().seenIndex, { reach, signal })
}

/**
 * From where connections are led to a task. Of a service that is gone from nowhere: its ports and
 * addresses refuse, whatever its tasks do.
 */
export function reachOf(
  { task, seenIndex }: TaskRecord,
  store: Pick<StoreView, 'index' | 'get'>,
): 'nobody' | 'node' | 'swarm' {
  const service = store.get('services', task.serviceId)
  if (service !== undefined) return reachOfService(service)
  // A replica that is older than the record may not know the service yet.
  const isKnown = store.index >= seenIndex
  return isKnown || task.ports.length + (task.networks ?? []).length === 0 ? 'nobody' : 'swarm'
}

function reachOfService({ endpoint }: Service): 'nobody' | 'node' | 'swarm' {
  const { ports = [], virtualAddresses = [] } = endpoint ?? {}
  const isEverywhere = ports.some(({ publishMode }) => publishMode === 'ingress')
  if (virtualAddresses.length > 0 || isEverywhere) return 'swarm'
  return ports.length > 0 ? 'node' : 'nobody'
}

/** Whether this node's replica does not know yet that the task is unhealthy. */
function isUntold({ status, task }: TaskRecord): boolean {
  const isWanted = task.desiredState === 'running'
  return isWanted && status.health === 'unhealthy' && task.status.health !== 'unhealthy'
}
