/**
 * A cluster of one store for tests of the agent: a real `Store`, and a proposer that applies to it
 * at once and can be cut off, as a partition would.
 */
import { SwarmError } from '../../base/errors.ts'
import { newIdentifier } from '../../base/identifiers.ts'
import { systemRandom } from '../../base/random.ts'
import type { Task } from '../../store/objects.ts'
import type { TaskSpec } from '../../store/spec.ts'
import { Store } from '../../store/store.ts'
import {
  FIXTURE_TIME,
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
} from '../../store/testing/fixtures.ts'
import type { Action, Draft, Proposer, ProposeOptions } from '../../store/transaction.ts'

/** Store and proposer. */
export class TestCluster implements Proposer {
  readonly store = new Store()
  /** Set to make every proposal fail. */
  partitioned = false
  /** Proposals that reached the store. */
  proposals: (readonly Action[])[] = []

  propose(
    actions: readonly Action[],
    options: ProposeOptions = {},
  ): Promise<{ readonly index: number }> {
    if (this.partitioned) {
      return Promise.reject(new SwarmError('NO_LEADER', 'proposal: no leader'))
    }
    this.proposals.push(actions)
    const requestId = options.requestId ?? newIdentifier(systemRandom)
    const transaction = { requestId, at: FIXTURE_TIME, actions }
    const result = this.store.applyTransaction(transaction, this.store.index + 1)
    if (result.ok) return Promise.resolve({ index: result.index })
    return Promise.reject(new SwarmError(result.code, result.message))
  }

  /** The node `id` with a subnet, and the service that tasks belong to. */
  async begin(id: string, subnet: string): Promise<void> {
    await this.propose([
      { type: 'create', table: 'nodes', object: nodeDraft(id, { subnet }) },
      { type: 'create', table: 'services', object: serviceDraft('service', serviceSpec('web')) },
    ])
  }

  /** Creates a task as the scheduler would have: assigned to `nodeId`. Returns its id. */
  async assign(nodeId: string, spec: TaskSpec, fields: Partial<Draft<Task>> = {}): Promise<string> {
    const id = newIdentifier(systemRandom)
    const status = { state: 'assigned', timestamp: FIXTURE_TIME, message: 'assigned' } as const
    const object = taskDraft(id, { nodeId, spec, status, ...fields })
    await this.propose([{ type: 'create', table: 'tasks', object }])
    return id
  }

  /** Sets a task's desired state, as the leader does. */
  async desire(id: string, desiredState: Task['desiredState']): Promise<void> {
    const task = this.task(id)
    const { meta, ...object } = task
    await this.propose([
      {
        type: 'update',
        table: 'tasks',
        object: { ...object, desiredState },
        version: meta.version,
      },
    ])
  }

  /** A task that must exist. */
  task(id: string): Task {
    const task = this.store.get('tasks', id)
    if (task === undefined) throw new SwarmError('NOT_FOUND', `task ${id}: gone`)
    return task
  }

  /** Resolves when `condition` holds of the store; rejects after `timeoutMs`. */
  until(condition: () => boolean, what: string, timeoutMs = 15_000): Promise<void> {
    if (condition()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const undo = this.store.onCommit(() => {
        if (!condition()) return
        clearTimeout(timer)
        undo()
        resolve()
      })
      const timer = setTimeout(() => {
        undo()
        const tasks = this.store
          .list('tasks')
          .map((task) => [task.id, task.desiredState, task.status])
        reject(new SwarmError('TIMED_OUT', `${what}: not in time; ${JSON.stringify(tasks)}`))
      }, timeoutMs)
    })
  }

  /** Resolves when the task, which may not exist yet, was observed in `state`. */
  async untilState(id: string, state: Task['status']['state']): Promise<Task> {
    const isThere = (): boolean => this.store.get('tasks', id)?.status.state === state
    await this.until(isThere, `task ${id} ${state}`)
    return this.task(id)
  }
}
