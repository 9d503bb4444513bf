/* Raft's membership follows the nodes' roles: which step, in which order, and what has to wait. */
import test from 'ava'
import { SwarmError } from '../base/errors.ts'
import { silentLogger } from '../base/log.ts'
import type { MemberProgress, Server } from '../raft/index.ts'
import { SimulatedClock } from '../raft/runtime/simulated-clock.ts'
import type { Node } from '../store/objects.ts'
import { Store } from '../store/store.ts'
import { nodeDraft } from '../store/testing/fixtures.ts'
import type { Action, Draft } from '../store/transaction.ts'
import { ROLE_RETRY_MS } from './limits.ts'
import { RoleReconciler, type RoleRaft } from './role-reconciler.ts'
import { nextRoleStep, roleSteps, subjectOf, type Group } from './role-steps.ts'

const META = { version: 5, createdVersion: 1, createdAt: '', updatedAt: '' }
const CERTIFICATE = Uint8Array.of(1)
const CAUGHT_UP: MemberProgress = { match: 9, behind: 0, recentActive: true, mode: 'replicate' }
const DEAD: MemberProgress = { ...CAUGHT_UP, recentActive: false }

type Role = 'manager' | 'worker'

function draft(id: string, role: Role, certified = role === 'manager'): Draft<Node> {
  return nodeDraft(id, {
    spec: { Role: role, Availability: 'active' },
    ...(certified ? { certificate: CERTIFICATE } : {}),
  })
}

function node(id: string, role: Role, certified?: boolean): Node {
  return { ...draft(id, role, certified), meta: META }
}

/** `a! b c.`: voter a, voter b, learner c; `!` marks the leader. */
function group(text: string, progress: Readonly<Record<string, MemberProgress>> = {}): Group {
  const names = text.split(' ')
  const servers = names.map((name): Server => {
    const id = name.replace(/[!.]/, '')
    return { id, address: `peer-${id}`, suffrage: name.endsWith('.') ? 'learner' : 'voter' }
  })
  const self = names.find((name) => name.endsWith('!'))?.slice(0, -1) ?? ''
  return { servers, self, progressOf: (id) => progress[id] ?? CAUGHT_UP }
}

function stepText(step: ReturnType<typeof nextRoleStep>): string {
  return step === undefined ? 'none' : `${step.type} ${subjectOf(step) ?? ''}`.trim()
}

function next(nodes: readonly Node[], members: Group): string {
  return stepText(nextRoleStep(nodes, members))
}

test('a new node becomes a learner, a manager with a certificate then a voter', (t) => {
  const leader = node('a', 'manager')
  t.is(next([leader, node('b', 'worker')], group('a!')), 'addLearner b')
  t.is(next([leader, node('b', 'worker')], group('a! b.')), 'none')
  t.is(next([leader, node('b', 'manager', false)], group('a! b.')), 'certify b')
  t.is(next([leader, node('b', 'manager')], group('a! b.')), 'addVoter b')
  t.is(next([leader, node('b', 'manager')], group('a! b')), 'none')
})

test('a demoted voter becomes a learner and loses its certificate', (t) => {
  const nodes = [node('a', 'manager'), node('b', 'worker', true)]
  t.is(next(nodes, group('a! b')), 'demoteVoter b')
  t.is(next(nodes, group('a! b.')), 'uncertify b')
})

test('a server without a node is removed, be it voter or learner', (t) => {
  t.is(next([node('a', 'manager')], group('a! b')), 'removeServer b')
  t.is(next([node('a', 'manager')], group('a! b.')), 'removeServer b')
})

test('a leader that is demoted or removed hands over, after everything else', (t) => {
  const successor = node('b', 'manager')
  t.is(next([node('a', 'worker'), successor], group('a! b')), 'transfer')
  t.is(next([successor], group('a! b')), 'transfer')
  const nodes = [node('a', 'worker'), successor, node('c', 'manager'), node('d', 'worker', false)]
  const members = group('a! b c. e.')
  const order = roleSteps(nodes, members).map(stepText)
  t.deepEqual(order, ['addLearner d', 'addVoter c', 'removeServer e', 'transfer'])
})

test('a swarm that is being founded has no steps', (t) => {
  t.is(next([], group('a!')), 'none')
})

test('nobody is promoted who does not answer, lags behind, or was never heard from', (t) => {
  const nodes = [node('a', 'manager'), node('b', 'manager'), node('c', 'manager')]
  const waiting: readonly MemberProgress[] = [
    DEAD,
    { ...CAUGHT_UP, behind: 1_000 },
    { ...CAUGHT_UP, mode: 'snapshot' },
    { match: 0, behind: 1, recentActive: true, mode: 'probe' },
    { ...CAUGHT_UP, match: META.version - 1, behind: 1 },
  ]
  for (const progress of waiting) {
    t.is(next(nodes.slice(0, 2), group('a! b.', { b: progress })), 'none')
    t.is(next(nodes, group('a! b. c.', { b: progress })), 'addVoter c')
  }
  t.is(next(nodes, group('a! b. c.', { b: { ...CAUGHT_UP, behind: 3 } })), 'addVoter b')
})

test('no voter goes while those that stay would be without a quorum', (t) => {
  const nodes = [node('a', 'manager'), node('b', 'manager'), node('c', 'worker', false)]
  t.is(next(nodes, group('a! b c', { b: DEAD })), 'none')
  t.is(next(nodes, group('a! b c', { c: DEAD })), 'demoteVoter c')
  t.is(next(nodes.slice(0, 2), group('a! b c', { b: DEAD })), 'none')
  t.is(next(nodes.slice(0, 2), group('a! b c.', { b: DEAD, c: DEAD })), 'removeServer c')
})

/** Raft as far as roles need it: changes are in force at once, unless `refuse` names them. */
class FakeRaft implements RoleRaft {
  readonly calls: string[] = []
  readonly progress = new Map<string, MemberProgress>()
  readonly refuse = new Set<string>()
  configuration: RoleRaft['configuration']

  constructor(members: string) {
    this.configuration = { index: 1, joint: false, servers: group(members).servers }
  }

  progressOf(id: string): MemberProgress | undefined {
    return this.progress.get(id)
  }

  addLearner(id: string): Promise<number> {
    return this.#change('addLearner', id, 'learner')
  }

  addVoter(id: string): Promise<number> {
    return this.#change('addVoter', id, 'voter')
  }

  demoteVoter(id: string): Promise<number> {
    return this.#change('demoteVoter', id, 'learner')
  }

  removeServer(id: string): Promise<number> {
    return this.#change('removeServer', id, undefined)
  }

  transferLeadership(): Promise<void> {
    this.calls.push('transfer')
    return Promise.reject(new SwarmError('FAILED_PRECONDITION', 'raft: there is no other voter'))
  }

  #change(type: string, id: string, suffrage: Server['suffrage'] | undefined): Promise<number> {
    const call = `${type} ${id}`
    this.calls.push(call)
    if (this.refuse.has(call)) {
      return Promise.reject(new SwarmError('TIMED_OUT', `raft: ${call} took too long`))
    }
    const rest = this.configuration.servers.filter((server) => server.id !== id)
    const servers =
      suffrage === undefined ? rest : [...rest, { id, address: `peer-${id}`, suffrage }]
    this.configuration = { ...this.configuration, servers }
    return Promise.resolve(1)
  }
}

function reconciling(members: string, nodes: readonly Draft<Node>[]) {
  const store = new Store()
  const raft = new FakeRaft(members)
  const clock = new SimulatedClock()
  let serial = 0
  const write = (actions: readonly Action[]): Promise<{ index: number }> => {
    serial += 1
    const transaction = { requestId: `r${serial}`, at: '', actions }
    const result = store.applyTransaction(transaction, store.index + 1)
    if (result.ok) return Promise.resolve({ index: result.index })
    return Promise.reject(new SwarmError(result.code, result.message))
  }
  const put = (object: Draft<Node>) => write([{ type: 'create', table: 'nodes', object }])
  const warnings: unknown[] = []
  const log = { ...silentLogger, warn: (fields: unknown) => warnings.push(fields) }
  const certify = (): Uint8Array => CERTIFICATE
  const components = { raft, store, proposer: { propose: write }, certify, clock, log }
  const reconciler = new RoleReconciler(components, 'a')
  return { store, raft, clock, reconciler, put, warnings, ready: Promise.all(nodes.map(put)) }
}

test('a manager that comes is certified, added, and promoted when it has caught up', async (t) => {
  const { store, raft, clock, reconciler, put, ready } = reconciling('a!', [draft('a', 'manager')])
  await ready
  reconciler.start()
  await put(draft('b', 'manager', false))
  await clock.advance(10 * ROLE_RETRY_MS)
  t.deepEqual(store.get('nodes', 'b')?.certificate, CERTIFICATE)
  t.deepEqual(raft.calls, ['addLearner b'])
  raft.progress.set('b', CAUGHT_UP)
  await clock.advance(ROLE_RETRY_MS)
  t.deepEqual(raft.calls, ['addLearner b', 'addVoter b'])
  t.is(clock.pendingTimers, 0)
  await reconciler.stop()
})

test('a node that waits for its promotion keeps nobody waiting', async (t) => {
  const { raft, clock, reconciler, put, ready } = reconciling('a! b.', [
    draft('a', 'manager'),
    draft('b', 'manager'),
  ])
  await ready
  raft.progress.set('b', DEAD)
  reconciler.start()
  await clock.advance(10 * ROLE_RETRY_MS)
  t.deepEqual(raft.calls, [])
  await put(draft('c', 'worker'))
  await clock.advance(1)
  t.deepEqual(raft.calls, ['addLearner c'])
  await reconciler.stop()
  t.is(clock.pendingTimers, 0)
})

test('a step that fails is tried again later, logged once, and holds up no other', async (t) => {
  const { raft, clock, reconciler, warnings, ready } = reconciling('a!', [
    draft('a', 'manager'),
    draft('b', 'worker'),
    draft('c', 'worker'),
  ])
  await ready
  raft.refuse.add('addLearner b')
  reconciler.start()
  await clock.advance(1)
  t.deepEqual(raft.calls, ['addLearner b', 'addLearner c'])
  await clock.advance(4 * ROLE_RETRY_MS)
  const tries = raft.calls.filter((call) => call === 'addLearner b').length
  t.true(tries >= 3 && tries <= 5, `${tries} tries`)
  t.is(warnings.length, 1)
  raft.refuse.clear()
  await clock.advance(2 * ROLE_RETRY_MS)
  t.true(raft.configuration.servers.some((server) => server.id === 'b'))
  t.is(clock.pendingTimers, 0)
  await reconciler.stop()
})

test('a demoted node’s certificate is taken off its record', async (t) => {
  const { store, raft, clock, reconciler, ready } = reconciling('a! b', [
    draft('a', 'manager'),
    draft('b', 'worker', true),
  ])
  await ready
  raft.progress.set('b', CAUGHT_UP)
  reconciler.start()
  await clock.advance(1)
  t.deepEqual(raft.calls, ['demoteVoter b'])
  t.is(store.get('nodes', 'b')?.certificate, undefined)
  await reconciler.stop()
})

test('a removed leader goes on asking for a successor, and stops when told to', async (t) => {
  const { raft, clock, reconciler, ready } = reconciling('a! b', [draft('b', 'manager')])
  await ready
  reconciler.start()
  await clock.advance(3 * ROLE_RETRY_MS)
  t.true(raft.calls.length >= 2 && raft.calls.every((call) => call === 'transfer'))
  await reconciler.stop()
  t.is(clock.pendingTimers, 0)
})
