import test from 'ava'
import { HeldCredit } from './held-credit.ts'

const WINDOW_BYTES = 1000

function update(stream: number, length: number, flags = 0): Uint8Array {
  const frame = new Uint8Array(12)
  const view = new DataView(frame.buffer)
  frame[1] = 1
  view.setUint16(2, flags)
  view.setUint32(4, stream)
  view.setUint32(8, length)
  return frame
}

function holder() {
  const sent: string[] = []
  const credit = new HeldCredit(WINDOW_BYTES, (bytes) => {
    sent.push(Buffer.from(bytes).toString('hex'))
    return true
  })
  return { credit, sent }
}

const hex = (...frames: readonly Uint8Array[]): string => Buffer.concat(frames).toString('hex')

test('window updates wait for the next frame, those of one stream added up', (t) => {
  const { credit, sent } = holder()
  t.is(credit.send(update(1, 10)), undefined)
  t.is(credit.send(update(3, 5)), undefined)
  t.is(credit.send(update(1, 20)), undefined)
  t.deepEqual(sent, [])
  const data = Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 42])
  t.true(credit.send(data))
  t.deepEqual(sent, [hex(update(1, 30), update(3, 5), data)])
  t.true(credit.send(data))
  t.is(sent[1], hex(data))
})

test('a quarter of a window is never held', (t) => {
  const { credit, sent } = holder()
  t.is(credit.send(update(1, 249)), undefined)
  t.true(credit.send(update(2, 1)))
  t.deepEqual(sent, [hex(update(1, 249), update(2, 1))])
})

test('opening and closing a stream, pings and farewells are not held', (t) => {
  const { credit, sent } = holder()
  for (const flags of [1, 2, 4, 8]) credit.send(update(1, 0, flags))
  credit.send(Uint8Array.from([0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]))
  credit.send(Uint8Array.from([0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
  t.is(sent.length, 6)
})
