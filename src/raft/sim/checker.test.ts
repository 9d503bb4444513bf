import test from 'ava'
import * as fc from 'fast-check'
import { checkRegister, type Operation } from './checker.ts'

/** `at` is [call, return]; a return of `undefined` never came. */
function write(id: number, at: readonly [number, number?], output?: number): Operation {
  return operation({ kind: 'write', id, output }, at)
}

function swap(expected: number, id: number, at: readonly [number, number?], output?: number) {
  return operation({ kind: 'write', id, expected, output }, at)
}

function read(output: number, at: readonly [number, number?]): Operation {
  return operation({ kind: 'read', output }, at)
}

function operation(what: Partial<Operation>, at: readonly [number, number?]): Operation {
  const [invokedAt, returnedAt = Number.POSITIVE_INFINITY] = at
  const base = { kind: 'read' as const, key: 1, id: 0, expected: undefined, output: undefined }
  return { ...base, ...what, invokedAt, returnedAt }
}

test('operations one after the other are explained by their order', (t) => {
  t.is(checkRegister([]), 'linearizable')
  const history = [write(1, [1, 2], 0), read(1, [3, 4]), write(2, [5, 6], 1), read(2, [7, 8])]
  t.is(checkRegister(history), 'linearizable')
})

test('a read that began after a write ended must see it', (t) => {
  t.is(checkRegister([write(1, [1, 2], 0), read(0, [3, 4])]), 'violation')
})

test('operations at the same time may take either order', (t) => {
  t.is(checkRegister([write(1, [1, 4], 0), read(0, [2, 3])]), 'linearizable')
  t.is(checkRegister([write(1, [1, 4], 0), read(1, [2, 3])]), 'linearizable')
})

test('a value that was seen is not unseen by a later read', (t) => {
  const history = [write(1, [1, 10], 0), read(1, [2, 3]), read(0, [4, 5])]
  t.is(checkRegister(history), 'violation')
})

test('two swaps cannot both succeed on one value', (t) => {
  const history = [swap(0, 1, [1, 4], 0), swap(0, 2, [2, 5], 0)]
  t.is(checkRegister(history), 'violation')
})

test('a swap that fails changes nothing', (t) => {
  const history = [write(1, [1, 2], 0), swap(7, 2, [3, 4], 1), read(1, [5, 6])]
  t.is(checkRegister(history), 'linearizable')
})

test('a write of unknown outcome may have happened, late', (t) => {
  const history = [write(1, [1]), read(0, [2, 3]), read(1, [4, 5])]
  t.is(checkRegister(history), 'linearizable')
})

test('a write of unknown outcome may never have happened', (t) => {
  t.is(checkRegister([write(1, [1]), read(0, [2, 3]), read(0, [4, 5])]), 'linearizable')
})

test('a write of unknown outcome happens at most once', (t) => {
  const history = [write(1, [1]), read(1, [2, 3]), write(2, [4, 5], 1), read(1, [6, 7])]
  t.is(checkRegister(history), 'violation')
})

test('a value that nobody wrote is never read', (t) => {
  t.is(checkRegister([write(1, [1]), read(9, [2, 3])]), 'violation')
})

test('an answer that needs one of two unknown writes first is found', (t) => {
  // 2 is seen, then 1: the unknown writes happened in this order, and the swap between them failed.
  const history = [
    write(1, [1]),
    write(2, [2]),
    read(2, [3, 4]),
    swap(5, 3, [5, 8], 2),
    read(1, [9, 10]),
  ]
  t.is(checkRegister(history), 'linearizable')
  t.is(checkRegister([...history, read(2, [11, 12])]), 'violation')
})

test('a search that becomes too long says so', (t) => {
  const many = Array.from({ length: 40 }, (_, position) => write(position + 1, [position]))
  const seen = many.map(({ id }) => read(id, [60, 99]))
  t.is(checkRegister([...many, read(99, [50, 51])], 1000), 'violation', 'nobody saw those')
  t.is(checkRegister([...many, read(99, [50, 51]), ...seen], 1000), 'gaveUp')
})

/** Runs calls against a register that takes each at a moment between its call and its return. */
const validHistory = fc
  .array(
    fc.record({
      kind: fc.constantFrom('read', 'write', 'swap'),
      moment: fc.integer({ min: 10, max: 400 }),
      before: fc.integer({ min: 0, max: 9 }),
      after: fc.integer({ min: 0, max: 9 }),
      unknown: fc.boolean(),
      guess: fc.integer({ min: 0, max: 12 }),
    }),
    { maxLength: 12 },
  )
  .map((calls) => {
    let value = 0
    return calls
      .toSorted((a, b) => a.moment - b.moment)
      .map(({ kind, moment, before, after, unknown, guess }, position): Operation => {
        const output = value
        const id = position + 1
        const expected = kind === 'swap' ? guess : undefined
        if (kind !== 'read' && (expected === undefined || expected === value)) value = id
        const at = [moment - before, moment + after + 0.5] as const
        if (unknown && kind !== 'read') return operation({ kind: 'write', id, expected }, [at[0]])
        return operation({ kind: kind === 'read' ? 'read' : 'write', id, expected, output }, at)
      })
  })

test('whatever a real register did is explained', (t) => {
  fc.assert(fc.property(validHistory, (history) => checkRegister(history) === 'linearizable'))
  t.pass()
})

/** All orders tried, without any cleverness. */
function explains(operations: readonly Operation[], value = 0): boolean {
  if (operations.every(({ returnedAt }) => !Number.isFinite(returnedAt))) return true
  const firstReturn = Math.min(...operations.map(({ returnedAt }) => returnedAt))
  return operations.some((each, position) => {
    if (each.invokedAt > firstReturn) return false
    if (each.output !== undefined && each.output !== value) return false
    const fits = each.expected === undefined || each.expected === value
    const after = each.kind === 'write' && fits ? each.id : value
    return explains(operations.toSpliced(position, 1), after)
  })
}

test('the search and a plain enumeration of all orders agree', (t) => {
  const damaged = fc
    .tuple(validHistory, fc.nat(), fc.integer({ min: 0, max: 12 }))
    .filter(([history]) => history.length > 0 && history.length <= 7)
    .map(([history, place, output]) =>
      history.map((each, position) => {
        const isKnown = Number.isFinite(each.returnedAt)
        return position === place % history.length && isKnown ? { ...each, output } : each
      }),
    )
  let violations = 0
  fc.assert(
    fc.property(damaged, (history) => {
      const found = checkRegister(history)
      if (found === 'violation') violations += 1
      return (found === 'linearizable') === explains(history)
    }),
    { numRuns: 300 },
  )
  t.true(violations > 20)
})

test('a write that nobody saw is no excuse for what others answer', (t) => {
  // 2 was never seen; leaving it out must not change what the others mean.
  t.is(checkRegister([write(1, [1, 2], 0), write(2, [3]), read(1, [4, 5])]), 'linearizable')
  t.is(checkRegister([write(1, [1, 2], 0), write(2, [3]), read(0, [4, 5])]), 'violation')
})

test('many writes of unknown outcome that nobody saw cost no search', (t) => {
  const unseen = Array.from({ length: 40 }, (_, position) => write(100 + position, [1]))
  const history = [...unseen, write(1, [2, 3], 0), read(1, [4, 5]), read(0, [6, 7])]
  t.is(checkRegister(history, 1000), 'violation')
})
