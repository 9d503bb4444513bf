/* The bulk window against a simulated line: one queue, a rate, and a delay of its own. */
import test from 'ava'
import {
  BulkWindow,
  TARGET_DELAY_MS,
  WINDOW_BYTES_MAX,
  WINDOW_BYTES_MIN,
  WINDOW_BYTES_START,
} from './bulk-window.ts'

interface Line {
  readonly bytesPerMs: number
  readonly delayMs: number
}

const PIECE_BYTES = 32 * 1024

/** Fills the window at every moment; returns what arrived and how long the last pieces waited. */
function run(window: BulkWindow, line: Line, forMs: number): { bytes: number; queueMs: number } {
  const underWay: { readonly sentMs: number; readonly arrivesMs: number }[] = []
  let lineFreeMs = 0
  let bytes = 0
  let queueMs = 0
  for (let now = 0; now < forMs; now += 1) {
    while (window.underWayBytes < window.limitBytes) {
      if (window.acquire(PIECE_BYTES) !== undefined) break
      lineFreeMs = Math.max(lineFreeMs, now) + PIECE_BYTES / line.bytesPerMs
      underWay.push({ sentMs: now, arrivesMs: lineFreeMs + line.delayMs })
    }
    let [oldest] = underWay
    while (oldest !== undefined && oldest.arrivesMs <= now) {
      underWay.shift()
      queueMs = now - oldest.sentMs - line.delayMs
      window.arrived(PIECE_BYTES, now - oldest.sentMs)
      bytes += PIECE_BYTES
      oldest = underWay[0]
    }
  }
  return { bytes, queueMs }
}

test('on a slow line the window goes to its floor and the line stays full', (t) => {
  const window = new BulkWindow()
  const { bytes, queueMs } = run(window, { bytesPerMs: 1_250, delayMs: 5 }, 20_000)
  t.is(window.limitBytes, WINDOW_BYTES_MIN)
  t.true(bytes > 0.95 * 1_250 * 20_000)
  t.true(queueMs < 260)
})

test('on a middling line the queue settles near the target', (t) => {
  const window = new BulkWindow()
  const { bytes, queueMs } = run(window, { bytesPerMs: 8_000, delayMs: 10 }, 20_000)
  t.true(bytes > 0.95 * 8_000 * 20_000)
  t.true(queueMs > TARGET_DELAY_MS / 2 && queueMs < TARGET_DELAY_MS * 1.5, `${queueMs} ms`)
})

test('on a long fast line the window opens, since its own delay is no queue', (t) => {
  const window = new BulkWindow()
  run(window, { bytesPerMs: 100_000, delayMs: 150 }, 10_000)
  t.is(window.limitBytes, WINDOW_BYTES_MAX)
})

test('waiters are served in order, and what is given back serves the next', async (t) => {
  const window = new BulkWindow()
  const order: number[] = []
  t.is(window.acquire(WINDOW_BYTES_START), undefined)
  const waiting = [1, 2, 3].map(async (number) => {
    await window.acquire(WINDOW_BYTES_START)
    order.push(number)
  })
  for (let turn = 0; turn < 3; turn += 1) {
    window.release(WINDOW_BYTES_START)
    await waiting[turn]
  }
  t.deepEqual(order, [1, 2, 3])
  window.release(WINDOW_BYTES_START)
  t.is(window.underWayBytes, 0)
})
