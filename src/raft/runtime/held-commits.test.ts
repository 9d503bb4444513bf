import test from 'ava'
import type { AppendRequest, Message } from '../core/message.ts'
import { HeldCommits } from './held-commits.ts'
import { SimulatedClock } from './simulated-clock.ts'

function append(index: number, count: number, commit: number, term = 3): AppendRequest {
  const entries = Array.from({ length: count }, (_, n) => ({
    index: index + 1 + n,
    term,
    type: 'normal' as const,
    data: new Uint8Array(1),
  }))
  return { type: 'app', from: 1, to: 2, term, logTerm: term, index, commit, entries }
}

const heartbeat: Message = { type: 'heartbeat', from: 1, to: 2, term: 3, commit: 5, context: 0 }

function holder() {
  const clock = new SimulatedClock()
  const sent: (readonly [number, readonly Message[]])[] = []
  return { clock, sent, held: new HeldCommits(clock, (to, messages) => sent.push([to, messages])) }
}

test('entries that follow at once tell the commit index, too', async (t) => {
  const { clock, held, sent } = holder()
  held.send(2, [append(10, 0, 9)])
  held.send(2, [append(10, 0, 10)])
  held.send(2, [append(10, 2, 10)])
  await clock.advance(10)
  t.deepEqual(sent, [[2, [append(10, 2, 10)]]])
})

test('a commit index alone goes after a moment, to each peer', async (t) => {
  const { clock, held, sent } = holder()
  held.send(2, [append(10, 0, 9)])
  held.send(3, [append(11, 0, 9)])
  t.deepEqual(sent, [])
  await clock.advance(2)
  t.deepEqual(sent, [
    [2, [append(10, 0, 9)]],
    [3, [append(11, 0, 9)]],
  ])
})

test('each waits its own time, whatever waited before it', async (t) => {
  const { clock, held, sent } = holder()
  held.send(2, [append(10, 0, 9)])
  held.send(2, [append(10, 1, 9)])
  await clock.advance(1)
  held.send(2, [append(11, 0, 11)])
  await clock.advance(1)
  t.deepEqual(sent, [[2, [append(10, 1, 9)]]], 'the first timer is over, this one is young')
  await clock.advance(0.5)
  held.send(2, [append(11, 0, 12)])
  await clock.advance(0.5)
  t.deepEqual(sent.slice(1), [[2, [append(11, 0, 12)]]], 'newer news do not make it wait longer')
})

test('what the next message does not repeat is sent before it', (t) => {
  for (const next of [append(8, 3, 9), append(10, 1, 8), append(10, 1, 9, 4), append(8, 0, 9)]) {
    const { held, sent } = holder()
    held.send(2, [append(10, 0, 9)])
    held.send(2, [next])
    t.deepEqual(sent, [[2, [append(10, 0, 9), next]]])
  }
  const { held, sent } = holder()
  held.send(2, [append(10, 0, 9)])
  held.send(2, [heartbeat])
  t.deepEqual(sent, [[2, [append(10, 0, 9), heartbeat]]])
})

test('nothing leaves a node that stops', async (t) => {
  const { clock, held, sent } = holder()
  held.send(2, [append(10, 0, 9)])
  held.stop()
  await clock.advance(10)
  t.deepEqual(sent, [])
})
