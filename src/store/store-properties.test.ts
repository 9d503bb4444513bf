/** Properties of the store against a naive oracle. */
import test from 'ava'
import * as fc from 'fast-check'
import { encodeTransaction } from './codec.ts'
import { serviceDraft, serviceSpec, taskDraft, transactionOf } from './testing/fixtures.ts'
import type { TaskState } from './objects.ts'
import { StoreStateMachine } from './state-machine.ts'
import { type Action } from './transaction.ts'
import { Replica, create, status, observe, bytesOf, chunked } from './testing/replica.ts'

/** Random actions over a few ids, so that they meet. */
function arbitraryActions(): fc.Arbitrary<Action[]> {
  const id = fc.constantFrom('a', 'b', 'c')
  const version = fc.integer({ min: 1, max: 12 })
  const state = fc.constantFrom<TaskState>('assigned', 'running', 'failed', 'shutdown')
  return fc.array(
    fc.oneof(
      fc.record({ id, name: id }).map(({ id: key, name }) => create.service(key, name)),
      fc.record({ id, name: id, version }).map(({ id: key, name, version: at }): Action => ({
        type: 'update',
        table: 'services',
        object: serviceDraft(key, serviceSpec(name)),
        version: at,
      })),
      fc
        .record({ id, state })
        .map(({ id: key, state: observed }) =>
          create.task(taskDraft(key, { status: status(observed), serviceId: 'a' })),
        ),
      fc
        .record({ id, state })
        .map(({ id: key, state: observed }) =>
          observe(key, 'node', status(observed === 'assigned' ? 'running' : observed)),
        ),
      id.map((key): Action => ({ type: 'desireTask', id: key, desiredState: 'shutdown' })),
      id.map((key): Action => ({ type: 'remove', table: 'services', id: key })),
      id.map((key): Action => ({ type: 'remove', table: 'tasks', id: key })),
      id.map((key): Action => ({
        type: 'restartTask',
        predecessor: key,
        nodeId: 'node',
        status: status('failed'),
        successorStatus: status('starting'),
      })),
    ),
    { minLength: 1, maxLength: 5 },
  )
}

/** Names and versions as the simplest program would keep them. */
class Oracle {
  services = new Map<string, { name: string; version: number }>()
  tasks = new Set<string>()

  /**
   * Whether the transaction is allowed; then it has taken effect. Covers services and creations.
   */
  apply(actions: readonly Action[], index: number): boolean {
    const services = new Map(this.services)
    const tasks = new Set(this.tasks)
    for (const action of actions) {
      if (action.type === 'create' && action.table === 'services') {
        if (services.has(action.object.id)) return false
        services.set(action.object.id, { name: action.object.spec.Name, version: index })
      } else if (action.type === 'update' && action.table === 'services') {
        if (services.get(action.object.id)?.version !== action.version) return false
        services.set(action.object.id, { name: action.object.spec.Name, version: index })
      } else if (action.type === 'create') {
        if (tasks.has(action.object.id)) return false
        tasks.add(action.object.id)
      } else if (action.type === 'remove') {
        const removed =
          action.table === 'services' ? services.delete(action.id) : tasks.delete(action.id)
        if (!removed) return false
      }
    }
    const names = [...services.values()].map((service) => service.name)
    if (new Set(names).size !== names.length) return false
    this.services = services
    this.tasks = tasks
    return true
  }
}

test('transactions agree with a naive oracle', (t) => {
  const simple = arbitraryActions().map((actions) =>
    actions.filter((action) => ['create', 'update', 'remove', 'desireTask'].includes(action.type)),
  )
  fc.assert(
    fc.property(fc.array(simple, { maxLength: 12 }), (log) => {
      const replica = new Replica()
      const oracle = new Oracle()
      for (const [position, actions] of log.entries()) {
        const expected = oracle.apply(actions, position + 1)
        t.is(replica.apply(actions).ok, expected)
        t.deepEqual(
          replica.store.list('services').map(({ id, spec, meta }) => [id, spec.Name, meta.version]),
          [...oracle.services]
            .toSorted(([a], [b]) => (a < b ? -1 : 1))
            .map(([id, { name, version }]) => [id, name, version]),
        )
        t.deepEqual(
          replica.store.list('tasks').map((task) => task.id),
          [...oracle.tasks].toSorted(),
        )
      }
    }),
    { numRuns: 150 },
  )
})

test('the same log gives the same bytes, straight or through a snapshot', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(arbitraryActions(), { minLength: 1, maxLength: 12 }),
      fc.nat(),
      fc.integer({ min: 1, max: 300 }),
      async (log, cut, chunkBytes) => {
        const entries = log.map((actions, position) => ({
          index: position + 1,
          term: 1,
          data: encodeTransaction(transactionOf(`r${position}`, actions)),
        }))
        const straight = new StoreStateMachine()
        straight.apply(entries)
        const first = new StoreStateMachine()
        const at = cut % entries.length
        first.apply(entries.slice(0, at))
        const second = new StoreStateMachine()
        await second.restore(chunked(await bytesOf(first), chunkBytes), at)
        second.apply(entries.slice(at))
        t.deepEqual(await bytesOf(second), await bytesOf(straight))
        t.deepEqual(second.store.image(), straight.store.image())
      },
    ),
    { numRuns: 60 },
  )
})
