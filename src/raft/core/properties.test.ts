/** Properties of the parts, against naive oracles. */
import test from 'ava'
import * as fc from 'fast-check'
import { isSwarmError } from '../../base/errors.ts'
import { decodeConfChange, encodeConfChange } from './conf-change-codec.ts'
import { ConfChanger, restoreTracker } from './conf-changer.ts'
import type { ConfChange, ConfChangeSingle, ConfState, PeerId } from './entry.ts'
import { Inflights } from './inflights.ts'
import { JointConfig, MajorityConfig } from './quorum.ts'
import { Tracker } from './tracker.ts'

const LIMITS = { maxInflightMessages: 10, maxInflightBytes: 1000 }
const peer = fc.integer({ min: 1, max: 7 })
const peers = fc.uniqueArray(peer, { maxLength: 7 })
const single: fc.Arbitrary<ConfChangeSingle> = fc.record({
  type: fc.constantFrom('addVoter', 'addLearner', 'remove', 'update'),
  peer,
})
const singles = fc.array(single, { minLength: 1, maxLength: 5 })

function joint(incoming: readonly PeerId[], outgoing: readonly PeerId[]): JointConfig {
  return new JointConfig(new MajorityConfig(incoming), new MajorityConfig(outgoing))
}

/** A tracker with these voters. */
function withVoters(voters: readonly PeerId[]): Tracker {
  const conf = { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false }
  return restoreTracker(new Tracker(LIMITS), conf, 1)
}

test('the committed index is the highest that more than half of each half has', (t) => {
  const indexes = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 8, maxLength: 8 })
  fc.assert(
    fc.property(peers, peers, indexes, (incoming, outgoing, acked) => {
      const enough = (ids: readonly PeerId[], index: number): boolean =>
        ids.length === 0 || ids.filter((id) => (acked[id] ?? 0) >= index).length * 2 > ids.length
      let expected = Number.POSITIVE_INFINITY
      if (incoming.length + outgoing.length > 0) {
        expected = 20
        while (expected > 0 && !(enough(incoming, expected) && enough(outgoing, expected)))
          expected -= 1
      }
      t.is(
        joint(incoming, outgoing).committedIndex((id) => acked[id]),
        expected,
      )
    }),
  )
})

test('an election is decided when no vote that is missing can change it', (t) => {
  const votes = fc.dictionary(fc.constantFrom('1', '2', '3', '4', '5', '6', '7'), fc.boolean())
  fc.assert(
    fc.property(peers, peers, votes, (incoming, outgoing, given) => {
      const cast = new Map(Object.entries(given).map(([id, vote]) => [Number(id), vote] as const))
      const wonIf = (missing: boolean): boolean =>
        [incoming, outgoing].every(
          (ids) =>
            ids.length === 0 || ids.filter((id) => cast.get(id) ?? missing).length * 2 > ids.length,
        )
      const expected = wonIf(false) ? 'won' : wonIf(true) ? 'pending' : 'lost'
      t.is(joint(incoming, outgoing).voteResult(cast), expected)
    }),
  )
})

test('a joint change comes to the same members as its steps one by one', (t) => {
  fc.assert(
    fc.property(singles, (changes) => {
      let stepwise = withVoters([1, 2, 3])
      for (const change of changes) {
        const result = new ConfChanger(stepwise, 1).simple([change])
        if (!result.ok) return
        stepwise = result.tracker
      }
      const entered = new ConfChanger(withVoters([1, 2, 3]), 1).enterJoint(false, changes)
      t.true(entered.ok)
      if (!entered.ok) return
      const left = new ConfChanger(entered.tracker, 1).leaveJoint()
      t.true(left.ok)
      if (left.ok) t.deepEqual(left.tracker.confState(), stepwise.confState())
    }),
  )
})

test('old and new configuration of a change always have a member in common quorums', (t) => {
  const subsets = (ids: readonly PeerId[]): PeerId[][] =>
    ids.reduce<PeerId[][]>((sets, id) => [...sets, ...sets.map((set) => [...set, id])], [[]])
  const quorums = (conf: ConfState): PeerId[][] =>
    subsets([...new Set([...conf.voters, ...conf.votersOutgoing])]).filter(
      (set) =>
        joint(conf.voters, conf.votersOutgoing).voteResult(
          new Map(set.map((id) => [id, true] as const)),
        ) === 'won',
    )
  fc.assert(
    fc.property(singles, (changes) => {
      const before = withVoters([1, 2, 3])
      const result = new ConfChanger(before, 1).change({ transition: 'auto', changes })
      if (!result.ok) return
      for (const old of quorums(before.confState()))
        for (const next of quorums(result.tracker.confState()))
          t.true(old.some((id) => next.includes(id)))
    }),
    { numRuns: 50 },
  )
})

test('a configuration survives being stored and restored', (t) => {
  fc.assert(
    fc.property(singles, fc.boolean(), fc.boolean(), (changes, autoLeave, leave) => {
      const entered = new ConfChanger(withVoters([1, 2, 3]), 1).enterJoint(autoLeave, changes)
      if (!entered.ok) return
      const result = leave ? new ConfChanger(entered.tracker, 1).leaveJoint() : entered
      t.true(result.ok)
      if (!result.ok) return
      const conf = result.tracker.confState()
      const restored = restoreTracker(new Tracker(LIMITS), conf, 1)
      t.deepEqual(restored.confState(), conf)
      t.deepEqual(
        restored.entries().map(([id, { isLearner }]) => [id, isLearner]),
        result.tracker.entries().map(([id, { isLearner }]) => [id, isLearner]),
      )
    }),
  )
})

test('a changer never touches the tracker that it is given', (t) => {
  fc.assert(
    fc.property(singles, (changes) => {
      const tracker = withVoters([1, 2, 3])
      const look = (): unknown => [
        tracker.confState(),
        tracker.entries().map(([id, progress]) => [id, progress.status()]),
      ]
      const before = look()
      new ConfChanger(tracker, 1).enterJoint(true, changes)
      new ConfChanger(tracker, 1).simple(changes)
      t.deepEqual(look(), before)
    }),
  )
})

test('a configuration change survives the codec; leaving is the empty entry', (t) => {
  const safe = fc.record({
    type: single.map(({ type }) => type),
    peer: fc.maxSafeNat(),
  })
  const change: fc.Arbitrary<ConfChange> = fc
    .record({
      transition: fc.constantFrom('auto' as const, 'implicit' as const, 'explicit' as const),
      changes: fc.array(safe),
      context: fc.uint8Array({ minLength: 1 }),
      hasContext: fc.boolean(),
    })
    .map(({ transition, changes, context, hasContext }) =>
      hasContext ? { transition, changes, context } : { transition, changes },
    )
  fc.assert(
    fc.property(change, (value) => {
      t.deepEqual(decodeConfChange(encodeConfChange(value)), value)
    }),
  )
  t.is(encodeConfChange({ transition: 'auto', changes: [] }).length, 0)
})

test('bytes that encode no change are refused with a code', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 30 }), (bytes) => {
      try {
        decodeConfChange(bytes)
      } catch (error) {
        t.true(isSwarmError(error, 'INVALID_ARGUMENT'))
      }
    }),
  )
  for (const bytes of [[2, 0, 0], [1], [1, 3, 0], [1, 0, 9], [1, 0, 1, 7, 1], [1, 0, 1, 0]])
    t.throws(() => decodeConfChange(Uint8Array.from(bytes)), { code: 'INVALID_ARGUMENT' })
  const endless = [1, 0, 1, 0, ...Array.from({ length: 12 }, () => 0xff)]
  t.throws(() => decodeConfChange(Uint8Array.from(endless)), { code: 'INVALID_ARGUMENT' })
})

test('a window is full by messages or by bytes, and freed in order', (t) => {
  const step = fc.oneof(
    fc.record({ add: fc.integer({ min: 1, max: 400 }) }),
    fc.record({ free: fc.integer({ min: 0, max: 60 }) }),
  )
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const window = new Inflights(10, 1000)
      let oracle: { index: number; bytes: number }[] = []
      let next = 1
      for (const action of steps) {
        if ('free' in action) {
          window.freeTo(action.free)
          oracle = oracle.filter(({ index }) => index > action.free)
        } else if (!window.full) {
          window.add(next, action.add)
          oracle.push({ index: next, bytes: action.add })
          next += 1
        }
        const bytes = oracle.reduce((sum, message) => sum + message.bytes, 0)
        t.is(window.count, oracle.length)
        t.is(window.full, oracle.length >= 10 || bytes >= 1000)
      }
    }),
  )
})
