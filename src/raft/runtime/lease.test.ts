import test from 'ava'
import { systemClock } from '../../base/clock.ts'
import { LeaderLease } from './lease.ts'

const options = { leaseReads: true, tickMs: 100, electionTicks: 10 }

/** A lease whose newest round, 3, is confirmed; `openedRound` was the newest before a tick. */
function isHeldAfterTick(openedRound: number): boolean {
  const clock = { ...systemClock, monotonicMs: () => 5000 }
  const core = { term: 1, leaseRounds: { openedRound: 3, confirmedRound: 3 } }
  const lease = new LeaderLease({ clock, core })
  lease.onTick(options, { startMs: 5000, openedRound })
  return lease.isHeld(options, false)
}

test('a lease counts from a round that a tick has sent', (t) => {
  t.true(isHeldAfterTick(2))
})

test('a tick without heartbeats gives no later date to a round that a read has sent', (t) => {
  t.false(isHeldAfterTick(3))
})
