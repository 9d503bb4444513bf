/* Proposals from anywhere: forwarded, retried under one request id, with one definite answer. */
import test from 'ava'
import { SwarmError, type ErrorCode } from '../base/errors.ts'
import { seededRandom } from '../base/random.ts'
import type { Mesh } from '../mesh/ports.ts'
import { SimulatedClock } from '../raft/runtime/simulated-clock.ts'
import { decodeTransaction, encodeTransaction } from '../store/codec.ts'
import { Store } from '../store/store.ts'
import { FIXTURE_TIME, nodeDraft } from '../store/testing/fixtures.ts'
import type { Action, TransactionResult } from '../store/transaction.ts'
import { PROPOSE_TIMEOUT_MS } from './limits.ts'
import { RaftProposer, type ProposerRaft } from './raft-proposer.ts'

type Handler = Parameters<Mesh['handle']>[1]
/** What one attempt meets: a refusal, nothing at all, or the state machine. */
type Fate = ErrorCode | 'silence' | 'applied'

/**
 * One node with its proposer; `fates` are those of its attempts, in turn, the last one for ever.
 */
class TestNode {
  readonly store = new Store()
  readonly clock = new SimulatedClock()
  readonly attempts: { readonly at: string; readonly requestId: string }[] = []
  readonly proposer: RaftProposer
  readonly raft: ProposerRaft & { leader: string | undefined }
  /** Whether what is applied shows in this node's store too. */
  isBehind = false
  handler: Handler | undefined
  #fates: readonly Fate[]

  constructor(leader: string | undefined, fates: readonly Fate[] = ['applied']) {
    this.#fates = fates
    this.raft = {
      leader,
      apply: async (data, options) => {
        const response = await this.#meet('here', data, options?.signal)
        return { index: response.index, term: 1, response }
      },
    }
    const mesh: Pick<Mesh, 'handle' | 'request'> = {
      handle: (_method, handler) => {
        this.handler = handler
      },
      request: (nodeId, _method, body, options) => {
        return this.#meet(nodeId, body as Uint8Array, options?.signal)
      },
    }
    const { raft, store, clock } = this
    this.proposer = new RaftProposer({ raft, mesh, store, clock, random: seededRandom(1) }, 'a')
  }

  async #meet(at: string, data: Uint8Array, signal?: AbortSignal): Promise<TransactionResult> {
    const transaction = decodeTransaction(data)
    this.attempts.push({ at, requestId: transaction.requestId })
    const [fate = 'applied', ...rest] = this.#fates
    if (rest.length > 0) this.#fates = rest
    if (fate === 'silence') await silence(signal)
    if (fate !== 'applied' && fate !== 'silence') throw new SwarmError(fate, `test: ${fate}`)
    if (this.isBehind) return { ok: true, index: this.store.index + 1 }
    return this.store.applyTransaction(transaction, this.store.index + 1)
  }
}

function silence(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_resolve, reject) => {
    signal?.addEventListener('abort', () => reject(new SwarmError('ABORTED', 'test: withdrawn')))
  })
}

function create(id: string): Action {
  return { type: 'create', table: 'nodes', object: nodeDraft(id) }
}

test('the leader proposes to its own log, another node asks the leader', async (t) => {
  const leader = new TestNode('a')
  t.deepEqual(await leader.proposer.propose([create('x')]), { index: 1 })
  t.is(leader.attempts[0]?.at, 'here')
  const follower = new TestNode('b')
  await follower.proposer.propose([create('x')])
  t.is(follower.attempts[0]?.at, 'b')
  t.truthy(follower.store.get('nodes', 'x'))
})

test('an attempt without an answer is repeated with the same request id', async (t) => {
  const node = new TestNode('b', ['NOT_LEADER', 'UNAVAILABLE', 'TIMED_OUT', 'applied'])
  const proposal = node.proposer.propose([create('x')])
  await node.clock.advance(10)
  node.raft.leader = 'c'
  await node.clock.advance(1_000)
  t.deepEqual(await proposal, { index: 1 })
  t.deepEqual(
    node.attempts.map(({ at }) => at),
    ['b', 'c', 'c', 'c'],
  )
  t.is(new Set(node.attempts.map(({ requestId }) => requestId)).size, 1)
})

test('a caller’s request id is used, and two proposals have two', async (t) => {
  const node = new TestNode('a')
  await node.proposer.propose([create('x')], { requestId: 'given' })
  await node.proposer.propose([create('y')])
  await node.proposer.propose([create('z')])
  const ids = node.attempts.map(({ requestId }) => requestId)
  t.is(ids[0], 'given')
  t.is(new Set(ids).size, 3)
})

test('a proposal that becomes effective twice is answered like the first time', async (t) => {
  const node = new TestNode('a')
  const first = await node.proposer.propose([create('x')], { requestId: 'r' })
  t.deepEqual(await node.proposer.propose([create('x')], { requestId: 'r' }), first)
})

test('a refused transaction and other errors are reported at once', async (t) => {
  const node = new TestNode('a', ['applied', 'applied', 'PERMISSION_DENIED'])
  await node.proposer.propose([create('x')])
  await t.throwsAsync(node.proposer.propose([create('x')]), { code: 'ALREADY_EXISTS' })
  await t.throwsAsync(node.proposer.propose([create('y')]), { code: 'PERMISSION_DENIED' })
  t.is(node.attempts.length, 3)
  t.is(node.clock.pendingTimers, 0)
})

test('without a leader nothing is tried, and the error says what is missing', async (t) => {
  const node = new TestNode(undefined)
  const proposal = t.throwsAsync(node.proposer.propose([create('x')]), {
    code: 'NO_LEADER',
    message: /^The swarm does not have a leader\..*more than half of the managers are online/,
  })
  await node.clock.advance(PROPOSE_TIMEOUT_MS + 100)
  await proposal
  t.is(node.attempts.length, 0)
  t.is(node.clock.pendingTimers, 0)
})

test('a leader that came too late is NO_LEADER, one that said nothing is TIMED_OUT', async (t) => {
  for (const [fate, code, message] of [
    ['NOT_LEADER', 'NO_LEADER', /does not have a leader/],
    ['TIMED_OUT', 'TIMED_OUT', /^proposal: no answer from the leader; it may still take effect$/],
    ['UNAVAILABLE', 'TIMED_OUT', /may still take effect/],
  ] as const) {
    const node = new TestNode('b', [fate])
    const proposal = t.throwsAsync(node.proposer.propose([create('x')]), { code, message })
    await node.clock.advance(PROPOSE_TIMEOUT_MS + 100)
    const error = await proposal
    t.like(error.cause, { code: fate })
    t.true(node.attempts.length > 10)
  }
})

test('a write that this node has not seen in time is TIMED_OUT, though it took effect', async (t) => {
  const node = new TestNode('b')
  node.isBehind = true
  const proposal = t.throwsAsync(node.proposer.propose([create('x')]), {
    code: 'TIMED_OUT',
    message: /^proposal: took effect, but this node has not caught up/,
  })
  await node.clock.advance(PROPOSE_TIMEOUT_MS + 100)
  await proposal
  t.is(node.clock.pendingTimers, 0)
})

test('a proposal resolves when its effect is in this node’s store', async (t) => {
  const node = new TestNode('b')
  node.isBehind = true
  const proposal = node.proposer.propose([create('x')])
  await node.clock.advance(1)
  const transaction = { requestId: 'r', at: FIXTURE_TIME, actions: [create('x')] }
  node.store.applyTransaction(transaction, 1)
  t.deepEqual(await proposal, { index: 1 })
})

test('closing ends what waits and refuses what comes, with the reason', async (t) => {
  for (const node of [new TestNode(undefined), new TestNode('a', ['silence']), new TestNode('b')]) {
    node.isBehind = true
    const waiting = t.throwsAsync(node.proposer.propose([create('x')]), { code: 'SHUTTING_DOWN' })
    await node.clock.advance(1)
    node.proposer.close()
    await waiting
    await t.throwsAsync(node.proposer.propose([create('y')]), { code: 'SHUTTING_DOWN' })
    t.is(node.clock.pendingTimers, 0)
  }
})

test('a caller that withdraws gets ABORTED, whatever its reason', async (t) => {
  for (const leader of [undefined, 'a']) {
    const node = new TestNode(leader, ['silence'])
    const caller = new AbortController()
    const options = { signal: caller.signal }
    const waiting = t.throwsAsync(node.proposer.propose([create('x')], options), {
      code: 'ABORTED',
    })
    await node.clock.advance(1)
    caller.abort(new DOMException('late', 'TimeoutError'))
    t.is((await waiting).cause, caller.signal.reason)
  }
})

test('a forwarded proposal is checked by the leader before it enters the log', async (t) => {
  const node = new TestNode('a')
  const body = encodeTransaction({ requestId: 'r', at: FIXTURE_TIME, actions: [create('x')] })
  const forward = (data: unknown, from: string) => node.handler?.(data, from) ?? Promise.resolve()
  await t.throwsAsync(forward(body, 'stranger'), { code: 'PERMISSION_DENIED' })
  await node.proposer.propose([create('worker')])
  await t.throwsAsync(forward(body, 'worker'), { code: 'PERMISSION_DENIED' })
  await t.throwsAsync(forward('text', 'worker'), { code: 'INVALID_ARGUMENT' })
  const boss = nodeDraft('boss', { spec: { Role: 'manager', Availability: 'active' } })
  await node.proposer.propose([{ type: 'create', table: 'nodes', object: boss }])
  t.deepEqual(await forward(body, 'boss'), { ok: true, index: 3 })
  node.raft.leader = 'b'
  await t.throwsAsync(forward(body, 'boss'), { code: 'NOT_LEADER' })
})
