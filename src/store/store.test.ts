import { setImmediate } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import * as fc from 'fast-check'
import { TRANSACTION_FORMAT, decodeTransaction, encodeTransaction } from './codec.ts'
import {
  clusterDraft,
  nodeDraft,
  serviceDraft,
  serviceSpec,
  taskDraft,
  taskSpec,
  transactionOf,
} from './testing/fixtures.ts'
import type { Network, Task, TaskState, TaskStatus } from './objects.ts'
import { successorTaskId } from './restart-policy.ts'
import { StoreStateMachine } from './state-machine.ts'
import { Store } from './store.ts'
import { Table } from './table.ts'
import {
  REQUEST_HISTORY_MAX,
  TRANSACTION_ACTIONS_MAX,
  TRANSACTION_BYTES_MAX,
  type Action,
  type Draft,
} from './transaction.ts'
import type { Commit } from './view.ts'

const AT = '2026-01-01T00:00:00.000Z'

/** A store that is fed through its state machine, entry by entry. */
class Replica {
  readonly machine = new StoreStateMachine()
  #next = 1

  get store(): Store {
    return this.machine.store
  }

  apply(actions: readonly Action[], requestId = `request-${this.#next}`) {
    return this.feed(encodeTransaction(transactionOf(requestId, actions)))
  }

  feed(data: Uint8Array) {
    const index = this.#next
    this.#next += 1
    const result = this.machine.apply([{ index, term: 1, data }])[0]
    if (result === undefined) throw new Error('no result')
    return result
  }
}

const create = {
  node: (draft: ReturnType<typeof nodeDraft>): Action => ({
    type: 'create',
    table: 'nodes',
    object: draft,
  }),
  service: (id: string, name: string): Action => ({
    type: 'create',
    table: 'services',
    object: serviceDraft(id, serviceSpec(name)),
  }),
  task: (draft: Draft<Task>): Action => ({ type: 'create', table: 'tasks', object: draft }),
}

function status(state: TaskState, message = ''): TaskStatus {
  return { state, timestamp: AT, message }
}

function observe(id: string, nodeId: string, reported: TaskStatus): Action {
  return { type: 'observeTask', id, nodeId, status: reported }
}

async function bytesOf(machine: StoreStateMachine): Promise<Buffer> {
  return collect(machine.snapshot())
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

async function* chunked(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) {
    await setImmediate()
    yield bytes.subarray(start, start + size)
  }
}

function refusal(t: ExecutionContext, result: ReturnType<Replica['apply']>, code: string): void {
  t.is(result.ok ? 'ok' : result.code, code)
}

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

test('the oldest request ids are forgotten', (t) => {
  const store = new Store()
  for (let index = 1; index <= REQUEST_HISTORY_MAX + 1; index += 1) {
    store.applyTransaction(transactionOf(`r${index}`, []), index)
  }
  const { requests } = store.image()
  t.is(requests.length, REQUEST_HISTORY_MAX)
  t.is(requests[0]?.[0], 'r2')
})

test('an entry that does not decode is refused and changes nothing', (t) => {
  const replica = new Replica()
  const bad: Uint8Array[] = [
    new Uint8Array(0),
    Uint8Array.of(99, 1, 2),
    Uint8Array.of(TRANSACTION_FORMAT, 0xc1, 0xff),
    Uint8Array.of(TRANSACTION_FORMAT, 0x93, 1),
    encodeTransaction(transactionOf('r', [])).subarray(0, 9),
  ]
  for (const data of bad) refusal(t, replica.feed(data), 'INVALID_ARGUMENT')
  t.is(replica.store.index, bad.length)
})

test('random bytes never crash the state machine', (t) => {
  const replica = new Replica()
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      const result = replica.feed(Uint8Array.of(TRANSACTION_FORMAT, ...bytes))
      return !result.ok && result.code === 'INVALID_ARGUMENT'
    }),
    { numRuns: 300 },
  )
  t.pass()
})

test('malformed actions and objects are refused before they are applied', (t) => {
  const encode = (action: unknown) => () =>
    encodeTransaction({ requestId: 'r', at: AT, actions: [action] } as never)
  const bad: unknown[] = [
    { type: 'destroy', table: 'nodes', id: 'x' },
    { type: 'remove', table: 'secrets', id: 'x' },
    { type: 'create', table: 'nodes', object: { id: 'n' } },
    { type: 'create', table: 'tasks', object: { ...taskDraft('t'), slot: -1 } },
    { type: 'create', table: 'tasks', object: { ...taskDraft('t'), status: { state: 'remove' } } },
    { type: 'observeTask', id: 't', nodeId: 'n', status: { state: 'happy' } },
    { type: 'create', table: 'services', object: { id: 's', spec: { Name: 1 } } },
    { type: 'desireTask', id: '', desiredState: 'remove' },
  ]
  for (const action of bad) t.throws(encode(action), { code: 'INVALID_ARGUMENT' })
})

test('a transaction over its limits is refused', (t) => {
  const many = Array.from({ length: TRANSACTION_ACTIONS_MAX + 1 }, (_, position) =>
    create.task(taskDraft(`t${position}`)),
  )
  t.throws(() => encodeTransaction(transactionOf('r', many)), { code: 'INVALID_ARGUMENT' })
  const heavy = taskSpec({ ContainerSpec: { Image: 'x'.repeat(TRANSACTION_BYTES_MAX) } })
  const large = [create.task(taskDraft('t', { spec: heavy }))]
  t.throws(() => encodeTransaction(transactionOf('r', large)), { code: 'INVALID_ARGUMENT' })
})

test('a transaction is the same after encoding and decoding', (t) => {
  const transaction = transactionOf('r', [
    { type: 'create', table: 'cluster', object: clusterDraft() },
    create.node(nodeDraft('n1', { certificate: Uint8Array.of(1, 2, 3) })),
    create.task(taskDraft('t1', { restartDelay: 5_000_000_000 })),
  ])
  t.deepEqual(decodeTransaction(encodeTransaction(transaction)), transaction)
})

test('listeners hear of each commit with the objects before and after', (t) => {
  const replica = new Replica()
  const commits: Commit[] = []
  const undo = replica.store.onCommit((commit) => commits.push(commit))
  replica.apply([create.service('s1', 'web'), create.task(taskDraft('t1'))])
  replica.apply([{ type: 'remove', table: 'services', id: 's1' }])
  replica.apply([{ type: 'remove', table: 'services', id: 's1' }])
  undo()
  replica.apply([create.service('s1', 'web')])
  t.is(commits.length, 2)
  const [first, second] = commits
  t.like(first, { type: 'changes', index: 1 })
  t.deepEqual(first?.type === 'changes' && first.changes.map((change) => change.id), ['s1', 't1'])
  const removal = second?.type === 'changes' ? second.changes[0] : undefined
  t.is(removal?.after, undefined)
  t.is(removal?.before?.id, 's1')
})

test('waiting for an index ends when it is applied, or when it is withdrawn', async (t) => {
  const replica = new Replica()
  const waiting = replica.store.waitForIndex(2)
  const controller = new AbortController()
  const never = replica.store.waitForIndex(9, { signal: controller.signal })
  replica.apply([create.service('s1', 'web')])
  replica.apply([create.service('s1', 'web')])
  await waiting
  await replica.store.waitForIndex(1)
  controller.abort(new Error('withdrawn'))
  await t.throwsAsync(never, { message: 'withdrawn' })
})

test('indexes and prefixes find what is there, in order of id', (t) => {
  const replica = new Replica()
  replica.apply([
    create.task(taskDraft('b2', { nodeId: 'n1', slot: 2 })),
    create.task(taskDraft('a1', { nodeId: 'n1' })),
    create.task(taskDraft('b1', { nodeId: 'n2' })),
  ])
  const ids = (tasks: Task[]): string[] => tasks.map((task) => task.id)
  t.deepEqual(ids(replica.store.list('tasks')), ['a1', 'b1', 'b2'])
  t.deepEqual(ids(replica.store.find('tasks', 'nodeId', 'n1')), ['a1', 'b2'])
  t.deepEqual(ids(replica.store.find('tasks', 'slot', 'service/2')), ['b2'])
  t.deepEqual(ids(replica.store.findByIdPrefix('tasks', 'b')), ['b1', 'b2'])
  replica.apply([{ type: 'remove', table: 'tasks', id: 'b2' }])
  t.deepEqual(ids(replica.store.find('tasks', 'nodeId', 'n1')), ['a1'])
})

test('a large table stays in order of id, however it is written and read', (t) => {
  const step = fc.record({ id: fc.nat(400), isGone: fc.boolean(), isRead: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const table = new Table<Network>({})
      const networkOf = (id: number, index: number): Network => ({
        id: `n${id}`,
        spec: { Name: `n${id}` },
        meta: { version: index, createdVersion: 0, createdAt: AT, updatedAt: AT },
      })
      for (let id = 0; id < 300; id += 1) table.put(networkOf(id, 0))
      const before = table.all()
      const copy = [...before]
      const model = new Map(before.map((network) => [network.id, network]))
      for (const [index, { id, isGone, isRead }] of steps.entries()) {
        const network = networkOf(id, index + 1)
        if (isGone) table.remove(network.id)
        else table.put(network)
        if (isGone) model.delete(network.id)
        else model.set(network.id, network)
        if (isRead) t.is(table.all().length, model.size)
      }
      const sorted = [...model.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1))
      t.deepEqual(table.all(), sorted)
      // Who read before keeps what it read.
      t.deepEqual(before, copy)
    }),
  )
})

test('a snapshot shows the moment it was taken, not later entries', async (t) => {
  const replica = new Replica()
  for (let position = 0; position < 250; position += 1) {
    replica.apply([create.task(taskDraft(`t${position}`))])
  }
  const before = await bytesOf(replica.machine)
  const source = replica.machine.snapshot()
  replica.apply([{ type: 'remove', table: 'tasks', id: 't7' }, create.service('s', 'web')])
  t.deepEqual(await collect(source), before)
})

test('a damaged snapshot is refused and the store stays as it was', async (t) => {
  const replica = new Replica()
  replica.apply([create.task(taskDraft('t1')), create.service('s1', 'web')])
  const bytes = await bytesOf(replica.machine)
  const other = new Replica()
  other.apply([create.service('s9', 'kept')])
  const restore = (damaged: Uint8Array) => other.machine.restore(chunked(damaged, 64), 5)
  const corrupt = { code: 'STORAGE_CORRUPT' }
  await t.throwsAsync(restore(bytes.subarray(0, -1)), corrupt)
  await t.throwsAsync(restore(bytes.subarray(0, -10)), corrupt)
  await t.throwsAsync(restore(new Uint8Array(0)), corrupt)
  await t.throwsAsync(restore(Buffer.concat([bytes, bytes])), corrupt)
  await t.throwsAsync(restore(Buffer.alloc(64, 0xff)), corrupt)
  t.not(other.store.get('services', 's9'), undefined)
})

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
