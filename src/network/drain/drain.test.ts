import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import { SwarmError } from '../../base/errors.ts'
import type { ErrorCode } from '../../base/errors.ts'
import { silentLogger } from '../../base/log.ts'
import { ManualClock } from '../../control/testing/manual-clock.ts'
import { Store } from '../../store/store.ts'
import {
  ACKNOWLEDGE_MS_MAX,
  ARRIVAL_MS,
  ARRIVAL_MS_MAX,
  DrainBarrier,
  GATHER_MS,
  ROUNDS_AT_ONCE_MAX,
} from './drain-barrier.ts'
import { ASKS_AT_ONCE_MAX, ASK_RETRY_MS, BLIND_MS } from './peer-lanes.ts'
import { Progress, programmedByAll } from './progress.ts'
import { ANSWER_MS_MAX, ProgrammedServer } from './question.ts'

const never = new AbortController().signal

/** Whether a promise has settled, once all that could has. */
async function isDone(work: Promise<unknown>): Promise<boolean> {
  let done = false
  const end = (): void => void (done = true)
  work.then(end, end)
  await setImmediate()
  return done
}

function progressOf(index: number): { store: Store; progress: Progress } {
  const store = new Store()
  const progress = new Progress(store)
  store.skip(index)
  progress.begin()
  progress.end()
  return { store, progress }
}

test('before the first pass nothing is programmed, then entries without effect count at once', async (t) => {
  const store = new Store()
  const progress = new Progress(store)
  store.skip(7)
  t.is(progress.index, 0)
  progress.begin()
  t.is(progress.index, 0)
  progress.end()
  t.is(progress.index, 7)
  const reached = progress.reached(9, { signal: never })
  store.skip(8)
  t.false(await isDone(reached))
  store.skip(9)
  t.true(await isDone(reached))
})

test('an entry counts when the pass that began after it has ended, however many follow', async (t) => {
  const { store, progress } = progressOf(4)
  store.skip(5)
  progress.note()
  const reached = [5, 6].map((index) => progress.reached(index, { signal: never }))
  t.is(progress.index, 4)
  progress.begin()
  store.skip(6)
  progress.note()
  t.is(progress.index, 4)
  progress.end()
  t.is(progress.index, 5)
  t.deepEqual(await Promise.all(reached.map((one) => isDone(one))), [true, false])
  progress.begin()
  store.skip(7)
  progress.end()
  t.is(progress.index, 7)
  t.true(await isDone(reached[1] ?? Promise.resolve()))
})

test('what is no entry, and is noted during a pass, waits for the next one', async (t) => {
  const { store, progress } = progressOf(4)
  store.skip(5)
  progress.note()
  progress.begin()
  progress.note()
  const reached = progress.reached(store.index, { signal: never })
  progress.end()
  t.is(progress.index, 4)
  t.false(await isDone(reached))
  progress.begin()
  progress.end()
  t.is(progress.index, 5)
  t.true(await isDone(reached))
})

test('all parts must have reached it; who waits can go, and goes when nothing follows any more', async (t) => {
  const [one, other] = [progressOf(3), progressOf(3)]
  const both = programmedByAll([one.progress, other.progress])
  other.progress.note()
  t.is(both.index, 2)
  const gone = new AbortController()
  const reached = [both.reached(3, { signal: gone.signal }), both.reached(3, { signal: never })]
  t.false(await isDone(Promise.race(reached)))
  gone.abort(new SwarmError('ABORTED', 'gone'))
  other.progress.stop()
  const codes = await Promise.all(reached.map((work) => codeOf(work)))
  t.deepEqual(codes, ['ABORTED', 'SHUTTING_DOWN'])
  t.is(await codeOf(both.reached(1, { signal: never })), 'SHUTTING_DOWN')
})

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'none'
  } catch (error) {
    return error instanceof SwarmError ? error.code : String(error)
  }
}

test('a node that is behind answers when it has caught up, or that it has not in time', async (t) => {
  const clock = new ManualClock()
  const { store, progress } = progressOf(3)
  const server = new ProgrammedServer({ clock, own: () => progress })
  t.deepEqual(await server.answer({ index: 2 }), { index: 3 })
  const answer = server.answer({ index: 5 })
  t.false(await isDone(answer))
  store.skip(5)
  progress.note()
  t.false(await isDone(answer), 'its replica has, its kernel has not')
  progress.begin()
  store.skip(6)
  progress.end()
  t.deepEqual(await answer, { index: 6 })
  const late = server.answer({ index: 7 })
  const code = codeOf(late)
  await clock.advance(ANSWER_MS_MAX)
  t.is(await code, 'TIMED_OUT')
  t.is(clock.pending, 0)
  for (const body of [undefined, {}, { index: '3' }, { index: -1 }, { index: 1.5 }]) {
    t.is(await codeOf(server.answer(body)), 'INVALID_ARGUMENT')
  }
  const unborn = new ProgrammedServer({ clock, own: () => undefined })
  t.is(await codeOf(unborn.answer({ index: 0 })), 'UNAVAILABLE')
})

interface Question {
  readonly nodeId: string
  readonly index: number
  answer(index?: number): void
  fail(code: ErrorCode): void
}

/** Other nodes whose answers the test gives. */
class AskedNodes {
  readonly nodes: Set<string>
  /** Not answered yet. */
  open: Question[] = []
  asked = 0
  mostAtOnce = 0

  constructor(count: number) {
    this.nodes = new Set(Array.from({ length: count }, (_, index) => `n${index}`))
  }

  linked(): readonly string[] {
    return [...this.nodes]
  }

  ask(nodeId: string, body: unknown, options: { readonly signal: AbortSignal }): Promise<unknown> {
    const { index } = body as { readonly index: number }
    const { promise, resolve, reject } = Promise.withResolvers<unknown>()
    const close = (): void => void (this.open = this.open.filter((one) => one !== question))
    const question = {
      nodeId,
      index,
      answer: (reached = index) => (close(), resolve({ index: reached })),
      fail: (code: ErrorCode) => (close(), reject(new SwarmError(code, `node ${nodeId}`))),
    }
    options.signal.addEventListener('abort', () => question.fail('ABORTED'))
    this.open.push(question)
    this.asked += 1
    this.mostAtOnce = Math.max(this.mostAtOnce, this.open.length)
    return promise
  }

  /** The open question to a node. */
  of(nodeId: string): Question {
    const found = this.open.find((one) => one.nodeId === nodeId)
    if (found === undefined) throw new Error(`nobody asks ${nodeId}`)
    return found
  }
}

function barrierScene(count: number) {
  const clock = new ManualClock()
  const peers = new AskedNodes(count)
  const { store, progress } = progressOf(9)
  const warnings: object[] = []
  const log = { ...silentLogger, warn: (fields: object) => void warnings.push(fields) }
  const barrier = new DrainBarrier({ clock, peers, store, log, own: () => progress })
  const passed = (index: number): Promise<void> =>
    barrier.passed(index, { reach: 'swarm', signal: never })
  return { clock, peers, store, progress, warnings, barrier, passed }
}

test('a task waits for every node with a link, and then for what was under way', async (t) => {
  const { clock, peers, passed } = barrierScene(3)
  const waiting = passed(9)
  await clock.advance(GATHER_MS)
  t.deepEqual(
    peers.open.map(({ nodeId, index }) => [nodeId, index]),
    [
      ['n0', 9],
      ['n1', 9],
      ['n2', 9],
    ],
  )
  for (const question of peers.open) question.answer()
  await clock.advance(ARRIVAL_MS - 1)
  t.false(await isDone(waiting))
  await clock.advance(1)
  t.true(await isDone(waiting))
  t.is(clock.pending, 0)
})

test('tasks that stop at the same time share one question a node', async (t) => {
  const { clock, peers, passed } = barrierScene(10)
  const waiting = Promise.all(Array.from({ length: 100 }, (_, index) => passed(1 + index)))
  await clock.advance(GATHER_MS)
  t.is(peers.asked, 10)
  t.true(peers.open.every(({ index }) => index === 100))
  for (const question of peers.open) question.answer()
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(waiting))
})

test('a node is asked once at a time: what comes meanwhile is its next question', async (t) => {
  const { clock, peers, passed } = barrierScene(1)
  const first = passed(5)
  await clock.advance(GATHER_MS)
  const later: Promise<void>[] = []
  for (let index = 6; index < 6 + 2 * ROUNDS_AT_ONCE_MAX; index += 1) {
    later.push(passed(index))
    await clock.advance(GATHER_MS)
  }
  t.is(peers.asked, 1)
  peers.of('n0').answer(7)
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(Promise.all([first, ...later.slice(0, 2)])), 'it had reached more')
  t.false(await isDone(later[2] ?? Promise.resolve()))
  t.is(peers.asked, 2)
  t.true(peers.of('n0').index >= 5 + ROUNDS_AT_ONCE_MAX)
  while (peers.open.length > 0) {
    peers.of('n0').answer()
    await clock.advance(GATHER_MS)
  }
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(Promise.all(later)))
  t.true(peers.asked <= 4, `${peers.asked} questions`)
})

test('a thousand nodes are asked some at a time', async (t) => {
  const { clock, peers, passed } = barrierScene(1_000)
  const waiting = passed(9)
  await clock.advance(GATHER_MS)
  t.is(peers.open.length, ASKS_AT_ONCE_MAX)
  while (peers.open.length > 0) {
    for (const question of peers.open) question.answer()
    await setImmediate()
  }
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(waiting))
  t.is(peers.asked, 1_000)
  t.is(peers.mostAtOnce, ASKS_AT_ONCE_MAX)
})

test('a node without a link is not waited for, and one whose link dies no longer', async (t) => {
  const { clock, peers, passed } = barrierScene(2)
  const waiting = passed(9)
  await clock.advance(GATHER_MS)
  peers.of('n0').answer()
  peers.nodes.delete('n1')
  peers.of('n1').fail('UNAVAILABLE')
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(waiting))
  peers.nodes.clear()
  const alone = passed(9)
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(alone))
  t.is(peers.asked, 2)
})

test('a node that is reached another way now, or is busy, is asked again', async (t) => {
  const { clock, peers, passed } = barrierScene(1)
  const waiting = passed(9)
  await clock.advance(GATHER_MS)
  for (const code of ['UNAVAILABLE', 'RESOURCE_EXHAUSTED'] as const) {
    peers.of('n0').fail(code)
    await clock.advance(ASK_RETRY_MS)
  }
  peers.of('n0').answer()
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(waiting))
  t.is(peers.asked, 3)
})

test('an older node, which does not know the question, has the time that all once had', async (t) => {
  const { clock, peers, passed } = barrierScene(1)
  const waiting = passed(9)
  await clock.advance(GATHER_MS)
  peers.of('n0').fail('UNIMPLEMENTED')
  await clock.advance(BLIND_MS - 1)
  await clock.advance(ARRIVAL_MS - 1)
  t.false(await isDone(waiting))
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(waiting))
  t.is(peers.asked, 1)
})

test('a node that stays silent is waited for as long as said, and named', async (t) => {
  const { clock, peers, passed, warnings } = barrierScene(2)
  const waiting = passed(9)
  await clock.advance(GATHER_MS)
  peers.of('n0').answer()
  await clock.advance(ACKNOWLEDGE_MS_MAX - 1)
  t.false(await isDone(waiting))
  await clock.advance(1 + ARRIVAL_MS_MAX)
  t.true(await isDone(waiting))
  t.deepEqual(warnings, [{ count: 1, nodes: ['n1'], index: 9 }])
})

test('this node’s own balancers are waited for too, and alone where only they matter', async (t) => {
  const { clock, peers, progress, barrier } = barrierScene(1)
  progress.note()
  const waiting = barrier.passed(3, { reach: 'node', signal: never })
  await clock.advance(ARRIVAL_MS_MAX)
  t.false(await isDone(waiting))
  progress.begin()
  progress.end()
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(waiting))
  t.is(peers.asked, 0)
  progress.note()
  const late = barrier.passed(3, { reach: 'node', signal: never })
  await clock.advance(ACKNOWLEDGE_MS_MAX + ARRIVAL_MS_MAX)
  t.true(await isDone(late), 'a kernel that hangs keeps no task alive')
  progress.stop()
  const stopped = barrier.passed(3, { reach: 'node', signal: never })
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(stopped))
})

test('who stops waiting does at once, and a closed barrier holds nobody and no timer', async (t) => {
  const { clock, peers, barrier, passed } = barrierScene(1)
  const leaving = new AbortController()
  const left = codeOf(barrier.passed(9, { reach: 'swarm', signal: leaving.signal }))
  const waiting = passed(9)
  await clock.advance(GATHER_MS)
  leaving.abort(new SwarmError('SHUTTING_DOWN', 'agent: stopping'))
  t.is(await left, 'SHUTTING_DOWN')
  t.is(peers.open.length, 1)
  barrier.close()
  const after = passed(10)
  await clock.advance(ARRIVAL_MS_MAX)
  t.true(await isDone(Promise.all([waiting, after])))
  t.is(peers.open.length, 0)
  t.is(clock.pending, 0)
})
