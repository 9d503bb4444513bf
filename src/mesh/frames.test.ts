/* Frames, addresses, backoff and slots: the mesh's parts that need no network. */
import test from 'ava'
import * as fc from 'fast-check'
import type { Connection } from '@libp2p/interface'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import type { Clock } from '../base/clock.ts'
import { systemRandom } from '../base/random.ts'
import { nodeKey } from '../identity/node-key.ts'
import { hostPortOf, hostPortText, multiaddrOf, parseHostPort } from './addresses.ts'
import { decodeControl, encodeControl } from './control-message.ts'
import { DialSlots } from './dial-slots.ts'
import { FailureBackoff, FREE_FAILURES, SOURCES_MAX, WAIT_MAX_MS } from './failure-backoff.ts'
import { FrameWriter } from './frame-writer.ts'
import { encodeFrame, encodeParts, FrameReader, SEND_BYTES_MAX } from './frames.ts'
import {
  STRANGER_CHECK_MS,
  STRANGER_IDLE_MS,
  STRANGER_MAX_MS,
  STRANGER_STREAMS_MAX,
  Strangers,
} from './strangers.ts'
import type { MuxedStream } from './muxed-stream.ts'

test('frames come out as they went in, however the bytes are cut', (t) => {
  const bodies = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 12 })
  fc.assert(
    fc.property(
      bodies,
      fc.array(fc.integer({ min: 1, max: 97 }), { minLength: 1 }),
      (list, cuts) => {
        const bytes = Buffer.concat(list.map((body) => encodeFrame(body)))
        const reader = new FrameReader(300)
        const out: Uint8Array[] = []
        let offset = 0
        for (let turn = 0; offset < bytes.length; turn += 1) {
          const end = offset + (cuts[turn % cuts.length] ?? 1)
          out.push(...reader.push(Uint8Array.from(bytes.subarray(offset, end))))
          offset = end
        }
        t.deepEqual(
          out.map((body) => Buffer.from(body).toString('hex')),
          list.map((body) => Buffer.from(body).toString('hex')),
        )
        t.is(reader.bufferedBytes, 0)
      },
    ),
  )
})

test('a frame above the limit is refused by its length, before its body', (t) => {
  const reader = new FrameReader(10)
  t.deepEqual(reader.push(encodeFrame(new Uint8Array(10))).length, 1)
  t.throws(() => reader.push(Uint8Array.of(0, 0, 0, 11)), { code: 'RESOURCE_EXHAUSTED' })
})

/** A stream that is clogged while `writableNeedsDrain`, until `drain`. */
class ClogStream extends EventTarget {
  readonly sent: Uint8Array[] = []
  writableNeedsDrain = false
  writeBufferLength = 0
  /** Every send clogs it. */
  narrow = false
  send(data: Uint8Array): boolean {
    this.sent.push(Uint8Array.from(data))
    this.writableNeedsDrain = this.narrow
    return !this.narrow
  }
  drain(): void {
    this.writableNeedsDrain = false
    this.dispatchEvent(new Event('drain'))
  }
}

function clogStream(): { readonly fake: ClogStream; readonly stream: MuxedStream } {
  const fake = new ClogStream()
  return { fake, stream: fake as unknown as MuxedStream }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

test('what is written within one turn leaves in one send', async (t) => {
  const { fake, stream } = clogStream()
  const writer = new FrameWriter(stream, { queueBytesMax: 1_000 })
  for (let n = 0; n < 5; n += 1) t.true(writer.write(Uint8Array.of(n)))
  await turn()
  t.is(fake.sent.length, 1)
  t.is(new FrameReader(10).push(fake.sent[0] ?? new Uint8Array(0)).length, 5)
})

test('a clogged stream is left alone, and the latest heartbeat goes first', async (t) => {
  const { fake, stream } = clogStream()
  const writer = new FrameWriter(stream, { queueBytesMax: 100 })
  fake.writableNeedsDrain = true
  t.true(writer.write(new Uint8Array(80).fill(1)))
  t.false(writer.write(new Uint8Array(80).fill(2)))
  for (let n = 0; n < 50; n += 1) t.true(writer.writeLatest('beat', Uint8Array.of(n)))
  await turn()
  t.deepEqual(fake.sent, [])
  fake.drain()
  await turn()
  const frames = new FrameReader(100).push(Buffer.concat(fake.sent))
  t.deepEqual(
    frames.map((frame) => [frame.length, frame[0]]),
    [
      [1, 49],
      [80, 1],
    ],
  )
  t.is(writer.queuedBytes, 0)
})

test('a long body leaves in parts, and a heartbeat passes between them', async (t) => {
  const { fake, stream } = clogStream()
  const writer = new FrameWriter(stream, { queueBytesMax: 10 * SEND_BYTES_MAX })
  const body = systemRandom.bytes(4 * SEND_BYTES_MAX)
  fake.narrow = true
  writer.write(body)
  await turn()
  writer.writeLatest('beat', Uint8Array.of(7))
  for (let n = 0; n < 8; n += 1) {
    fake.drain()
    await turn()
  }
  t.true(fake.sent.every((part) => part.length <= SEND_BYTES_MAX))
  const reader = new FrameReader(body.length)
  const frames = fake.sent.flatMap((sent) => reader.push(sent))
  t.deepEqual(
    frames.map((frame) => frame.length),
    [1, body.length],
  )
  t.true(Buffer.from(body).equals(frames[1] ?? new Uint8Array(0)))
  t.is(reader.bufferedBytes, 0)
})

test('a long body above the limit is refused before it is whole', (t) => {
  const parts = encodeParts(new Uint8Array(3 * SEND_BYTES_MAX))
  const reader = new FrameReader(2 * SEND_BYTES_MAX)
  t.throws(() => parts.flatMap((part) => reader.push(part)), { code: 'RESOURCE_EXHAUSTED' })
  t.true(reader.bufferedBytes <= 3 * SEND_BYTES_MAX)
})

test('control messages are read back, and anything else is refused', (t) => {
  const request = { type: 'request', id: 4, method: 'm', body: { a: [1, null] } } as const
  t.deepEqual<unknown, unknown>(decodeControl(encodeControl(request)), request)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      t.throws(() => decodeControl(bytes), { code: 'INVALID_ARGUMENT' })
    }),
  )
})

test('peer ids are those of libp2p', async (t) => {
  for (let n = 0; n < 20; n += 1) {
    const seed = systemRandom.bytes(32)
    const key = await generateKeyPairFromSeed('Ed25519', seed)
    t.is(nodeKey(seed).peerId, peerIdFromPrivateKey(key).toString())
  }
})

test('host:port and multiaddrs turn into each other', (t) => {
  const cases: readonly [string, string, string][] = [
    ['127.0.0.1:2377', '/ip4/127.0.0.1/tcp/2377', '127.0.0.1:2377'],
    ['10.0.0.1', '/ip4/10.0.0.1/tcp/2377', '10.0.0.1:2377'],
    ['[::1]:99', '/ip6/::1/tcp/99', '[::1]:99'],
    ['fe80::1', '/ip6/fe80::1/tcp/2377', '[fe80::1]:2377'],
    ['node-1.example.org:80', '/dns/node-1.example.org/tcp/80', 'node-1.example.org:80'],
  ]
  for (const [text, address, back] of cases) {
    t.is(multiaddrOf(parseHostPort(text)), address)
    t.is(multiaddr(address).toString(), address)
    t.is(hostPortText(hostPortOf(`${address}/p2p/12D3KooWx`)), back)
  }
  for (const bad of ['', ':80', 'a b', 'host:99999', 'host:x', '[1.2.3.4]:5', '-a', 'a..b']) {
    t.throws(() => parseHostPort(bad), { code: 'INVALID_ARGUMENT' }, bad)
  }
  for (const bad of ['', '/ip4/1.2.3.4', '/ip4/1.2.3.4/udp/1', '/ip4/1.2.3.4/tcp/70000']) {
    t.throws(() => hostPortOf(bad), { code: 'INVALID_ARGUMENT' }, bad)
  }
})

test('an address that keeps failing waits longer and longer', (t) => {
  let now = 0
  const clock: Clock = {
    monotonicMs: () => now,
    wallMs: () => 0,
    after: () => ({ cancel: () => {} }),
  }
  const backoff = new FailureBackoff(clock)
  for (let n = 0; n < FREE_FAILURES; n += 1) backoff.failed('a')
  t.is(backoff.waitMs('a'), 0)
  backoff.failed('a')
  t.is(backoff.waitMs('a'), 1_000)
  backoff.failed('a')
  t.is(backoff.waitMs('a'), 2_000)
  now += 1_500
  t.is(backoff.waitMs('a'), 500)
  for (let n = 0; n < 40; n += 1) backoff.failed('a')
  t.is(backoff.waitMs('a'), WAIT_MAX_MS)
  t.is(backoff.waitMs('b'), 0)
  for (let n = 0; n < SOURCES_MAX; n += 1) backoff.failed(`x${n}`)
  t.is(backoff.waitMs('a'), 0)
})

test('a stranger is cut for many streams, for none, and for staying', (t) => {
  let now = 0
  let due: { readonly atMs: number; readonly run: () => void }[] = []
  const clock: Clock = {
    monotonicMs: () => now,
    wallMs: () => 0,
    after: (delayMs, run) => {
      const timer = { atMs: now + delayMs, run }
      due.push(timer)
      return { cancel: () => (due = due.filter((other) => other !== timer)) }
    },
  }
  const strangers = new Strangers(clock, { isMember: (peerId) => peerId === 'member' })
  const cutAfterMs = (peerId: string, streams: number): number | undefined => {
    const startMs = now
    const cutsMs: number[] = []
    const connection = {
      id: `${peerId}${streams}`,
      direction: 'inbound',
      remotePeer: { toString: () => peerId },
      streams: Array.from({ length: streams }),
      abort: () => cutsMs.push(now - startMs),
    } as unknown as Connection
    strangers.opened(connection)
    for (; cutsMs.length === 0 && now - startMs < 2 * STRANGER_MAX_MS; now += STRANGER_CHECK_MS) {
      const ready = due.filter(({ atMs }) => atMs <= now)
      due = due.filter(({ atMs }) => atMs > now)
      for (const { run } of ready) run()
    }
    return cutsMs[0]
  }
  t.is(cutAfterMs('stranger', STRANGER_STREAMS_MAX + 1), STRANGER_CHECK_MS)
  t.is(cutAfterMs('stranger', 0), STRANGER_IDLE_MS)
  t.is(cutAfterMs('stranger', 1), STRANGER_MAX_MS)
  t.is(cutAfterMs('member', 50), undefined)
  t.deepEqual(due, [])
  t.false(strangers.full)
})

test('dial slots are given in order, and closing lets all go', async (t) => {
  const slots = new DialSlots(1)
  const first = await slots.take()
  const order: string[] = []
  const second = slots.take().then((slot) => {
    order.push('second')
    return slot
  })
  const third = slots.take().then((slot) => {
    order.push('third')
    return slot
  })
  t.true(first.granted)
  first[Symbol.dispose]()
  t.true((await second).granted)
  t.deepEqual(order, ['second'])
  slots.close()
  t.false((await third).granted)
  t.false((await slots.take()).granted)
})
