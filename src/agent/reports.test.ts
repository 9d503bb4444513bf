import test from 'ava'
import { systemClock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import { silentLogger } from '../base/log.ts'
import { seededRandom } from '../base/random.ts'
import type { Task, TaskState, TaskStatus } from '../store/objects.ts'
import { successorTaskId } from '../store/restart-policy.ts'
import type { RestartPolicy } from '../store/spec.ts'
import { FIXTURE_TIME, taskDraft, taskSpec } from '../store/testing/fixtures.ts'
import type { Action, ProposeOptions } from '../store/transaction.ts'
import {
  RAPID_FREE_ATTEMPTS,
  RAPID_RESTART_NS,
  SLOW_RESTART_NS,
  UNREPORTED_RESTARTS_MAX,
  RestartReporter,
  restartsLocally,
  successorRecord,
} from './local-restarts.ts'
import { StatusReporter } from './status-reporter.ts'
import type { TaskRecord } from './task-directory.ts'

const META = { version: 1, createdVersion: 1, createdAt: FIXTURE_TIME, updatedAt: FIXTURE_TIME }

function status(state: TaskState): TaskStatus {
  return { state, timestamp: FIXTURE_TIME, message: state }
}

function taskWith(policy: RestartPolicy, fields: Partial<Task> = {}): Task {
  return {
    ...taskDraft('t'.repeat(25), { spec: taskSpec({ RestartPolicy: policy }) }),
    meta: META,
    ...fields,
  }
}

/** A proposer whose answers the test gives, and what it was asked. */
class Answers {
  readonly asked: { readonly actions: readonly Action[]; readonly requestId: string }[] = []
  /** Errors for the next proposals; then success. */
  failures: Error[] = []
  #heard = Promise.withResolvers<void>()

  propose(actions: readonly Action[], options: ProposeOptions = {}): Promise<{ index: number }> {
    this.asked.push({ actions, requestId: options.requestId ?? '' })
    this.#heard.resolve()
    this.#heard = Promise.withResolvers<void>()
    const failure = this.failures.shift()
    return failure === undefined ? Promise.resolve({ index: 1 }) : Promise.reject(failure)
  }

  async untilAsked(times: number): Promise<void> {
    while (this.asked.length < times) await this.#heard.promise
  }
}

function parts(proposer: Answers): ConstructorParameters<typeof StatusReporter>[0] {
  return { proposer, clock: systemClock, random: seededRandom(1), log: silentLogger }
}

test('reports of many tasks are one proposal, with the newest status of each', async (t) => {
  const answers = new Answers()
  const reporter = new StatusReporter(parts(answers), { nodeId: 'node' })
  const stop = new AbortController()
  const loop = reporter.run(stop.signal)
  reporter.observe('a', status('preparing'))
  reporter.observe('b', status('running'))
  reporter.observe('a', status('starting'))
  await answers.untilAsked(1)
  stop.abort()
  await loop
  t.deepEqual(answers.asked[0]?.actions, [
    { type: 'observeTask', id: 'a', nodeId: 'node', status: status('starting') },
    { type: 'observeTask', id: 'b', nodeId: 'node', status: status('running') },
  ])
})

test('a report that failed is repeated with the same request id', async (t) => {
  const answers = new Answers()
  answers.failures = [new SwarmError('NO_LEADER', 'none'), new SwarmError('TIMED_OUT', 'late')]
  const reporter = new StatusReporter(parts(answers), { nodeId: 'node' })
  const stop = new AbortController()
  const loop = reporter.run(stop.signal)
  reporter.observe('a', status('running'))
  await answers.untilAsked(3)
  stop.abort()
  await loop
  t.is(new Set(answers.asked.map(({ requestId }) => requestId)).size, 1)
})

test('news during an outage replaces what was waiting, under a new request id', async (t) => {
  const answers = new Answers()
  answers.failures = [new SwarmError('NO_LEADER', 'none')]
  const reporter = new StatusReporter(parts(answers), { nodeId: 'node' })
  const stop = new AbortController()
  const loop = reporter.run(stop.signal)
  reporter.observe('a', status('running'))
  await answers.untilAsked(1)
  reporter.observe('a', status('failed'))
  reporter.observe('b', status('running'))
  await answers.untilAsked(2)
  stop.abort()
  await loop
  t.not(answers.asked[0]?.requestId, answers.asked[1]?.requestId)
  const states = answers.asked[1]?.actions.map((action) =>
    action.type === 'observeTask' ? `${action.id} ${action.status.state}` : '',
  )
  t.deepEqual(states?.toSorted(), ['a failed', 'b running'])
})

test('only a wanted task that ended by itself is restarted by its node', (t) => {
  const decide = (state: TaskState, fields: Partial<Task>, policy: RestartPolicy = {}): boolean =>
    restartsLocally({ task: taskWith(policy, fields), status: status(state), ranMs: undefined })
  t.true(decide('failed', {}))
  t.true(decide('complete', {}))
  t.false(decide('rejected', {}), 'the leader may find a better node')
  t.false(decide('shutdown', {}))
  t.false(decide('failed', { desiredState: 'shutdown' }))
  t.false(decide('failed', { desiredState: 'ready' }))
  t.false(decide('failed', { status: status('orphaned') }), 'the leader gave it up')
  t.false(decide('failed', {}, { Condition: 'none' }))
  t.false(decide('complete', {}, { Condition: 'on-failure' }))
  t.false(decide('failed', { attempt: 2 }, { MaxAttempts: 2 }))
})

function successorOf(fields: Partial<Task>, ranMs: number | undefined, unreported = 0): TaskRecord {
  const task = taskWith({ Delay: 0 }, fields)
  const record: TaskRecord = { task, origin: 'store', seenIndex: 1, status: status('failed') }
  const ended = { record, task, status: status('failed'), ranMs }
  return successorRecord(ended, { clock: systemClock, seenIndex: 5, unreported })
}

test('a successor inherits slot, node, spec and address, and counts the attempt', (t) => {
  const record = successorOf({ address: '10.0.0.9', attempt: 4 }, 60_000)
  t.is(record.task.id, successorTaskId('t'.repeat(25)))
  t.is(record.task.address, '10.0.0.9')
  t.is(record.task.attempt, 5)
  t.is(record.origin, 'local')
  t.is(record.predecessorStatus?.state, 'failed')
})

test('a crash loop is slowed down, a single crash is not', (t) => {
  t.is(successorOf({ attempt: 0 }, 10).delayNs, 0)
  t.is(successorOf({ attempt: RAPID_FREE_ATTEMPTS }, 60_000).delayNs, 0)
  t.is(successorOf({ attempt: RAPID_FREE_ATTEMPTS }, undefined).delayNs, 0)
  t.is(successorOf({ attempt: RAPID_FREE_ATTEMPTS }, 10).delayNs, RAPID_RESTART_NS)
  t.is(successorOf({}, 60_000, UNREPORTED_RESTARTS_MAX).delayNs, SLOW_RESTART_NS)
})

test('one refused restart in a batch does not take the others with it', async (t) => {
  const answers = new Answers()
  const refused = new SwarmError('FAILED_PRECONDITION', 'not wanted')
  answers.failures = [refused, refused]
  const records = new Map<string, TaskRecord>()
  for (const letter of ['a', 'b']) {
    const task = taskWith({ Delay: 0 }, { id: letter.repeat(25) })
    const record: TaskRecord = { task, origin: 'store', seenIndex: 1, status: status('failed') }
    const ended = { record, task, status: status('failed'), ranMs: undefined }
    const next = successorRecord(ended, { clock: systemClock, seenIndex: 1, unreported: 0 })
    records.set(next.task.id, next)
  }
  const gone: string[] = []
  const reporter = new RestartReporter(
    { ...parts(answers), pending: (id) => records.get(id), onRefused: (id) => gone.push(id) },
    { nodeId: 'node' },
  )
  for (const id of records.keys()) reporter.enqueue(id)
  const stop = new AbortController()
  const loop = reporter.run(stop.signal)
  await answers.untilAsked(3)
  stop.abort()
  await loop
  t.deepEqual(
    answers.asked.map(({ actions }) => actions.length),
    [2, 1, 1],
  )
  t.deepEqual(gone, [successorTaskId('a'.repeat(25))])
})
