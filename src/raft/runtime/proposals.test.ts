import test from 'ava'
import { isSwarmError } from '../../base/errors.ts'
import type { CoreStatus } from '../core/status.ts'
import { EMPTY_CONFIGURATION } from '../storage/empty-log.ts'
import { PendingCalls } from './pending-calls.ts'
import { Proposals } from './proposals.ts'
import { SimulatedClock } from './simulated-clock.ts'

/** A core that takes what it is given, at the place that the test says. */
class TakingCore {
  term = 1
  lastIndex = 0
  role: CoreStatus['role'] = 'leader'
  transferee = 0

  propose(entries: readonly unknown[]): 'ok' | 'dropped' {
    if (this.role !== 'leader' || this.transferee !== 0) return 'dropped'
    if (entries.length === 0) throw new Error('a proposal has entries')
    this.lastIndex += entries.length
    return 'ok'
  }

  proposeConfChange(): 'refused' {
    this.lastIndex += 1
    return 'refused'
  }

  status(): CoreStatus {
    const hard = { term: this.term, vote: 1, commit: 0 }
    const { role, lastIndex, transferee } = this
    const conf = EMPTY_CONFIGURATION
    const progress = new Map<number, never>()
    return { id: 1, lead: 1, role, hard, applied: 0, lastIndex, conf, transferee, progress }
  }
}

const one = Uint8Array.of(1)

interface Bench {
  readonly clock: SimulatedClock
  readonly calls: PendingCalls
  readonly proposals: Proposals<string>
  readonly core: TakingCore
  /** Proposes one command; its fate as a text. */
  readonly fate: () => Promise<string>
}

function bench(): Bench {
  const clock = new SimulatedClock()
  const calls = new PendingCalls(clock, 1000)
  const proposals = new Proposals<string>(calls)
  const core = new TakingCore()
  const fate = async (): Promise<string> => {
    try {
      const promise = proposals.add(one, {})
      proposals.flush(core)
      const { index, term, response } = await promise
      return `${term}/${index}: ${response}`
    } catch (error) {
      return isSwarmError(error) ? error.code : String(error)
    }
  }
  return { clock, calls, proposals, core, fate }
}

test('a result goes to the proposal of its index and term', async (t) => {
  const { proposals, fate } = bench()
  const [first, second] = [fate(), fate()]
  proposals.onApplied(1, 1, 'one')
  proposals.onApplied(2, 1, 'two')
  t.is(await first, '1/1: one')
  t.is(await second, '1/2: two')
  t.is(proposals.waitingCount, 0)
})

test('of two proposals for one place, the committed term decides which took effect', async (t) => {
  const { proposals, core, fate } = bench()
  const older = fate()
  core.term = 3
  core.lastIndex = 0
  const newer = fate()
  t.is(proposals.waitingCount, 2)
  proposals.onApplied(1, 1, 'the older survived')
  t.is(await older, '1/1: the older survived')
  proposals.onApplied(2, 4, undefined)
  t.is(await newer, 'NOT_LEADER')
})

test('an entry of a later term ends every proposal of earlier terms', async (t) => {
  const { proposals, fate } = bench()
  const fates = [fate(), fate(), fate()]
  proposals.onApplied(1, 2, undefined)
  t.deepEqual(await Promise.all(fates), ['NOT_LEADER', 'NOT_LEADER', 'NOT_LEADER'])
})

test('what has timed out before it was handed over is not proposed', async (t) => {
  const { clock, calls, proposals, core } = bench()
  const promise = proposals.add(one, { timeoutMs: 10 })
  clock.stall(20)
  calls.sweep()
  t.notThrows(() => proposals.flush(core))
  await t.throwsAsync(promise, { code: 'TIMED_OUT' })
  t.is(core.lastIndex, 0)
})

test('what a snapshot skipped has an unknown outcome', async (t) => {
  const { proposals, fate } = bench()
  const skipped = fate()
  const later = fate()
  proposals.onRestored(1)
  t.is(await skipped, 'TIMED_OUT')
  proposals.onApplied(2, 1, 'later')
  t.is(await later, '1/2: later')
})

test('a refusal says why: no leader, a transfer, too much, another change', async (t) => {
  const { proposals, core, fate } = bench()
  core.transferee = 2
  t.is(await fate(), 'UNAVAILABLE')
  core.transferee = 0
  core.propose = () => 'dropped'
  t.is(await fate(), 'RESOURCE_EXHAUSTED')
  core.role = 'follower'
  t.is(await fate(), 'NOT_LEADER')
  const change = proposals.proposeChange(core, { transition: 'auto', changes: [] }, {})
  const failure = await t.throwsAsync(change.promise)
  t.true(isSwarmError(failure, 'FAILED_PRECONDITION'))
})

test('a call ends once: in time, overdue, withdrawn, or with the component', async (t) => {
  const { clock, calls } = bench()
  const code = async (promise: Promise<unknown>): Promise<string> => {
    const failure = await t.throwsAsync(promise)
    return isSwarmError(failure) ? failure.code : String(failure)
  }
  const overdue = calls.start<void>({ timeoutMs: 50 }, 'too late')
  const inTime = calls.start<string>({}, 'too late')
  const stop = new AbortController()
  const withdrawn = calls.start<void>({ signal: stop.signal }, 'too late')
  const ended = calls.start<void>({}, 'too late')
  await clock.advance(49)
  calls.sweep()
  t.false(overdue.settled)
  await clock.advance(1)
  calls.sweep()
  inTime.resolve('answer')
  stop.abort(new Error('enough'))
  calls.close(new Error('over'))
  t.is(await code(overdue.promise), 'TIMED_OUT')
  t.is(await inTime.promise, 'answer')
  t.is(await code(withdrawn.promise), 'ABORTED')
  t.is(await code(ended.promise), 'Error: over')
  t.is(await code(calls.start<void>({}, 'too late').promise), 'Error: over')
})
