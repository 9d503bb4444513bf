/** What a transaction may write: the rules of the objects, each refusal with its code. */
import test from 'ava'
import { nodeDraft, serviceDraft, serviceSpec, taskDraft } from './testing/fixtures.ts'
import type { TaskState } from './objects.ts'
import { successorTaskId } from './restart-policy.ts'
import { type Action } from './transaction.ts'
import { AT, Replica, create, status, observe, refusal } from './testing/replica.ts'

test('a created object has the index as version and the proposer’s time', (t) => {
  const replica = new Replica()
  t.deepEqual(replica.apply([create.node(nodeDraft('n1'))]), { ok: true, index: 1 })
  const node = replica.store.get('nodes', 'n1')
  t.deepEqual(node?.meta, { version: 1, createdVersion: 1, createdAt: AT, updatedAt: AT })
  t.true(Object.isFrozen(node))
  t.true(Object.isFrozen(node?.description.platform))
})

test('a transaction that breaks a rule changes nothing', (t) => {
  const replica = new Replica()
  replica.apply([create.node(nodeDraft('n1'))])
  const result = replica.apply([
    create.service('s1', 'web'),
    { type: 'remove', table: 'nodes', id: 'n1' },
    { type: 'remove', table: 'tasks', id: 'missing' },
  ])
  refusal(t, result, 'NOT_FOUND')
  t.is(replica.store.get('services', 's1'), undefined)
  t.not(replica.store.get('nodes', 'n1'), undefined)
  t.is(replica.store.index, 2)
})

test('an update with an old version is out of sequence', (t) => {
  const replica = new Replica()
  replica.apply([create.node(nodeDraft('n1'))])
  const object = nodeDraft('n1', { spec: { Role: 'worker', Availability: 'drain' } })
  const update: Action = { type: 'update', table: 'nodes', object, version: 1 }
  t.true(replica.apply([update]).ok)
  refusal(t, replica.apply([update]), 'OUT_OF_SEQUENCE')
  refusal(
    t,
    replica.apply([{ type: 'remove', table: 'nodes', id: 'n1', version: 1 }]),
    'OUT_OF_SEQUENCE',
  )
  t.true(replica.apply([{ type: 'remove', table: 'nodes', id: 'n1', version: 2 }]).ok)
})

test('names of services and peer ids of nodes are unique', (t) => {
  const replica = new Replica()
  t.true(replica.apply([create.service('s1', 'web'), create.node(nodeDraft('n1'))]).ok)
  refusal(t, replica.apply([create.service('s2', 'web')]), 'ALREADY_EXISTS')
  refusal(t, replica.apply([create.service('s1', 'other')]), 'ALREADY_EXISTS')
  refusal(t, replica.apply([create.node(nodeDraft('n2', { peerId: 'peer-n1' }))]), 'ALREADY_EXISTS')
  refusal(
    t,
    replica.apply([create.service('s3', 'two'), create.service('s4', 'two')]),
    'ALREADY_EXISTS',
  )
  const swapped = replica.apply([
    create.service('s2', 'web'),
    { type: 'remove', table: 'services', id: 's1' },
  ])
  t.true(swapped.ok, 'a name given up in the same transaction is free')
  t.deepEqual(
    replica.store.find('services', 'name', 'web').map((service) => service.id),
    ['s2'],
  )
})

test('the last manager stays, also when two are demoted at the same time', (t) => {
  const replica = new Replica()
  const manager = { Role: 'manager', Availability: 'active' } as const
  const worker = { Role: 'worker', Availability: 'active' } as const
  replica.apply([
    create.node(nodeDraft('m1', { spec: manager })),
    create.node(nodeDraft('m2', { spec: manager })),
  ])
  const demote = (id: string): Action => ({
    type: 'update',
    table: 'nodes',
    object: nodeDraft(id, { spec: worker }),
    version: 1,
  })
  refusal(t, replica.apply([demote('m1'), demote('m2')]), 'FAILED_PRECONDITION')
  t.true(replica.apply([demote('m1')]).ok)
  refusal(t, replica.apply([demote('m2')]), 'FAILED_PRECONDITION')
  refusal(t, replica.apply([{ type: 'remove', table: 'nodes', id: 'm2' }]), 'FAILED_PRECONDITION')
})

test('the spec version follows the spec, and the one before is kept', (t) => {
  const replica = new Replica()
  replica.apply([create.service('s1', 'web')])
  const first = serviceSpec('web')
  const second = serviceSpec('web', 3)
  const endpoint = { ports: [], allocatedFor: 1 }
  const updateStatus = { state: 'paused', startedAt: AT, message: 'm' } as const
  replica.apply([
    {
      type: 'update',
      table: 'services',
      object: { ...serviceDraft('s1', first), endpoint, updateStatus },
      version: 1,
    },
  ])
  t.like(replica.store.get('services', 's1'), { specVersion: 1, previousSpec: undefined, endpoint })
  const object = { ...serviceDraft('s1', second), updateStatus }
  replica.apply([{ type: 'update', table: 'services', object, version: 2 }])
  t.like(replica.store.get('services', 's1'), {
    specVersion: 3,
    spec: second,
    previousSpec: first,
    previousSpecVersion: 1,
    updateStatus: undefined,
  })
})

test('a task’s observed state only goes forward, and only by its node', (t) => {
  const replica = new Replica()
  replica.apply([create.task(taskDraft('t1', { nodeId: 'n1', status: status('assigned') }))])
  const state = (): string | undefined => replica.store.get('tasks', 't1')?.status.state
  t.true(replica.apply([observe('t1', 'n1', status('running'))]).ok)
  t.true(replica.apply([observe('t1', 'n1', status('preparing'))]).ok)
  t.is(state(), 'running')
  const version = replica.store.get('tasks', 't1')?.meta.version
  t.true(replica.apply([observe('t1', 'n1', { ...status('running'), timestamp: 'later' })]).ok)
  t.is(replica.store.get('tasks', 't1')?.meta.version, version, 'no news, no write')
  t.true(replica.apply([observe('t1', 'n1', status('running', 'healthy'))]).ok)
  t.is(replica.store.get('tasks', 't1')?.status.message, 'healthy')
  refusal(t, replica.apply([observe('t1', 'n2', status('failed'))]), 'PERMISSION_DENIED')
  refusal(t, replica.apply([observe('t1', 'n1', status('orphaned'))]), 'INVALID_ARGUMENT')
  t.true(replica.apply([observe('unknown', 'n1', status('failed'))]).ok)
  t.is(state(), 'running')
})

test('a wish for a task goes forward without a version', (t) => {
  const replica = new Replica()
  replica.apply([create.task(taskDraft('t1'))])
  const desire = (desiredState: TaskState): Action => ({
    type: 'desireTask',
    id: 't1',
    desiredState,
  })
  t.true(replica.apply([desire('remove')]).ok)
  t.true(replica.apply([desire('shutdown')]).ok)
  t.is(replica.store.get('tasks', 't1')?.desiredState, 'remove')
  t.true(replica.apply([{ type: 'desireTask', id: 'gone', desiredState: 'remove' }]).ok)
})

test('a node’s report on itself touches nothing else', (t) => {
  const replica = new Replica()
  replica.apply([create.node(nodeDraft('n1', { subnet: '10.0.1.0/24' }))])
  const { description } = nodeDraft('n1')
  const report = (hostname: string): Action => ({
    type: 'observeNode',
    id: 'n1',
    description: { ...description, hostname },
    addresses: ['/ip4/127.0.0.2/tcp/1'],
    advertiseHost: '127.0.0.2',
  })
  t.true(replica.apply([report('pi')]).ok)
  t.like(replica.store.get('nodes', 'n1'), { subnet: '10.0.1.0/24', advertiseHost: '127.0.0.2' })
  replica.apply([report('pi')])
  t.is(replica.store.get('nodes', 'n1')?.meta.version, 2)
  t.deepEqual(
    replica.store.find('nodes', 'name', 'pi').map((node) => node.id),
    ['n1'],
  )
})

test('a node’s local restart makes one successor with the derived id', (t) => {
  const replica = new Replica()
  replica.apply([
    create.service('service', 'web'),
    create.task(taskDraft('t1', { address: '10.0.0.2', attempt: 1 })),
  ])
  const restart: Action = {
    type: 'restartTask',
    predecessor: 't1',
    nodeId: 'node',
    status: status('failed'),
    successorStatus: status('starting'),
  }
  t.true(replica.apply([restart]).ok)
  const id = successorTaskId('t1')
  t.like(replica.store.get('tasks', 't1'), { desiredState: 'shutdown' })
  t.like(replica.store.get('tasks', id), {
    predecessor: 't1',
    attempt: 2,
    address: '10.0.0.2',
    desiredState: 'running',
    status: { state: 'starting' },
  })
  const version = replica.store.get('tasks', id)?.meta.version
  t.true(replica.apply([restart]).ok, 'a repeat does nothing')
  t.is(replica.store.get('tasks', id)?.meta.version, version)
  replica.apply([{ type: 'remove', table: 'tasks', id }])
  refusal(t, replica.apply([restart]), 'FAILED_PRECONDITION')
  refusal(t, replica.apply([{ ...restart, predecessor: 'gone' }]), 'FAILED_PRECONDITION')
})

test('a repeated request id gives the first result and acts once', (t) => {
  const replica = new Replica()
  t.deepEqual(replica.apply([create.service('s1', 'web')], 'same'), { ok: true, index: 1 })
  t.deepEqual(replica.apply([create.service('s2', 'other')], 'same'), { ok: true, index: 1 })
  t.is(replica.store.list('services').length, 1)
  refusal(t, replica.apply([create.service('s3', 'web')], 'bad'), 'ALREADY_EXISTS')
  replica.apply([{ type: 'remove', table: 'services', id: 's1' }])
  refusal(t, replica.apply([create.service('s3', 'web')], 'bad'), 'ALREADY_EXISTS')
  t.is(replica.store.index, 5)
})
