/** What the store promises its readers: commits, indexes, order, snapshots; and bad entries. */
import test from 'ava'
import * as fc from 'fast-check'
import { TRANSACTION_FORMAT, decodeTransaction, encodeTransaction } from './codec.ts'
import { clusterDraft, nodeDraft, taskDraft, taskSpec, transactionOf } from './testing/fixtures.ts'
import type { Network, Task } from './objects.ts'
import { Store } from './store.ts'
import { Table } from './table.ts'
import {
  REQUEST_HISTORY_MAX,
  TRANSACTION_ACTIONS_MAX,
  TRANSACTION_BYTES_MAX,
} from './transaction.ts'
import type { Commit } from './view.ts'
import { AT, Replica, create, bytesOf, collect, chunked, refusal } from './testing/replica.ts'

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
