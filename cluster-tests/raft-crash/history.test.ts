/** The crash test's judge must see each wrong that it is there for. */
import test from 'ava'
import { History } from './history.ts'
import { digestWith } from './ledger.ts'
import { KEYS } from './protocol.ts'

function digestOf(values: readonly number[]): number {
  return values.reduce(digestWith, 0)
}

/** Values 1, 2, 3 at positions 0, 1, 2, acknowledged one after the other. */
function threeWrites(): History {
  const history = new History()
  for (const value of [1, 2, 3]) history.onWritten(value, value - 1, history.beginWrite(value))
  return history
}

function read(history: History, values: readonly number[]): readonly string[] {
  history.onTail(values, digestOf(values), history.begin())
  return history.violations
}

test('a history in order is right, with writes of unknown outcome and late answers', (t) => {
  const history = threeWrites()
  const early = history.begin()
  const late = history.beginWrite(4)
  history.beginWrite(5)
  history.onRefused(5)
  history.onRead({ key: 3, last: 3 }, 4, early)
  t.deepEqual(read(history, [1, 2, 3, 4]), [])
  history.onWritten(4, 3, late)
  history.onRead({ key: 4, last: 4 }, 4, history.begin())
  t.deepEqual(history.violations, [])
  t.is(history.acknowledgedWrites, 4)
})

test('an acknowledged write that is missing is noticed', (t) => {
  t.regex(read(threeWrites(), [1, 2]).join(), /3 were seen/)
  const history = threeWrites()
  history.beginWrite(4)
  t.regex(read(history, [1, 4, 3]).join(), /acknowledged write 2 is lost/)
})

test('a write that is lost after it was read is noticed', (t) => {
  const history = threeWrites()
  read(history, [1, 2, 3])
  history.beginWrite(4)
  history.onTail([4], digestOf([1, 3, 3, 4]), history.begin())
  t.regex(history.violations.join(), /values before 4 have changed/)
})

test('a write that takes effect twice, moves, or was refused is noticed', (t) => {
  t.regex(read(threeWrites(), [1, 2, 3, 2]).join(), /value 2 took effect twice/)
  t.regex(read(threeWrites(), [2, 1, 3]).join(), /value 2 moved from position 1 to 0/)
  const history = threeWrites()
  history.beginWrite(4)
  history.onRefused(4)
  t.regex(read(history, [1, 2, 3, 4]).join(), /value 4 was refused, but took effect/)
  t.regex(read(threeWrites(), [1, 2, 3, 9]).join(), /value 9 was never written/)
})

test('two writes at one position, and a write before an earlier one, are noticed', (t) => {
  const history = threeWrites()
  history.onWritten(4, 2, history.beginWrite(4))
  t.regex(history.violations.join(), /3 and 4 both got position 2/)
  t.regex(history.violations.join(), /got position 2, behind 3 seen before it/)
})

test('a stale read is noticed, one that overlaps the write is not', (t) => {
  const history = threeWrites()
  const overlapping = history.begin()
  history.onWritten(4, 3, history.beginWrite(4))
  history.onRead({ key: 1, last: 1 }, 3, overlapping)
  t.deepEqual(history.violations, [])
  history.onRead({ key: 1, last: 1 }, 3, history.begin())
  t.regex(history.violations.join(), /stale read of key 1: 3 values, 4 seen before it/)
})

test('a read of another value than the newest of its key is noticed', (t) => {
  const known = threeWrites()
  read(known, [1, 2, 3])
  known.onRead({ key: 2, last: 0 }, 3, known.begin())
  t.regex(known.violations.join(), /key 2 had 2 at 3, a read said 0/)
  const open = threeWrites()
  open.onWritten(1 + KEYS, 3, open.beginWrite(1 + KEYS))
  open.onRead({ key: 1, last: 1 }, 4, open.begin())
  t.regex(read(open, [1, 2, 3, 1 + KEYS]).join(), /key 1 had 62 at 4, a read said 1/)
})

test('a value that is read before anybody began to write it is noticed', (t) => {
  const history = threeWrites()
  history.onRead({ key: 0, last: 0 }, 4, history.begin())
  history.beginWrite(4)
  t.regex(read(history, [1, 2, 3, 4]).join(), /before all were written/)
})
