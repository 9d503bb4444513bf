/* The TCP transport between real sockets, and raft-ts over it. */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { SwarmError, isSwarmError } from '../../base/errors.ts'
import { delay, systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import type { AppendRequest, HeartbeatRequest, Message } from '../core/message.ts'
import { MemoryLogStore, MemorySnapshotStore, Raft } from '../index.ts'
import type { CommittedEntry, SnapshotTransfer, StateMachine } from '../runtime/ports.ts'
import { parseAddress } from './tcp-dial.ts'
import { FRAME, FrameReader, frameHead } from './tcp-frames.ts'
import { TcpTransport } from './tcp-transport.ts'
import { contentOf, sampleTransfer } from '../testing/sample-transfer.ts'

const components = { clock: systemClock, random: systemRandom, log: silentLogger }

async function until(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const endMs = systemClock.monotonicMs() + timeoutMs
  while (!condition()) {
    if (systemClock.monotonicMs() > endMs) throw new Error(`not in time: ${condition.toString()}`)
    await delay(systemClock, 5)
  }
}

interface End {
  readonly transport: TcpTransport
  readonly messages: { readonly from: string; readonly message: Message }[]
  readonly lost: { readonly peer: string; readonly reason: string }[]
  onSnapshot: (from: string, transfer: SnapshotTransfer) => Promise<void>
}

async function end(t: ExecutionContext, id: string, listen = '127.0.0.1:0'): Promise<End> {
  const transport = await TcpTransport.listen(components, { id, listen })
  t.teardown(() => transport.close())
  const made: End = { transport, messages: [], lost: [], onSnapshot: () => Promise.resolve() }
  transport.start({
    onMessage: (from, message) => made.messages.push({ from, message }),
    onSnapshot: (from, transfer) => made.onSnapshot(from, transfer),
    onUnreachable: (peer, reason) => made.lost.push({ peer, reason }),
  })
  return made
}

/** Two ends that know each other; `a` reaches `b`. */
async function pair(t: ExecutionContext): Promise<[End, End]> {
  const [a, b] = [await end(t, 'a'), await end(t, 'b')]
  connectAll([a, b], ['a', 'b'])
  await reaching(a, b)
  return [a, b]
}

async function reaching(a: End, b: End): Promise<void> {
  await until(() => {
    a.transport.send('b', [append(0, 1), heartbeat(0)])
    return b.messages.length >= 2
  })
  await delay(systemClock, 30)
  b.messages.length = 0
}

function connectAll(ends: readonly Pick<End, 'transport'>[], ids: readonly string[]): void {
  const addresses = new Map(ends.map(({ transport }, n) => [ids[n] ?? '', transport.address]))
  for (const { transport } of ends) transport.setPeers(addresses)
}

function append(index: number, sizeBytes: number): AppendRequest {
  const entries = [
    { index: index + 1, term: 3, type: 'normal', data: new Uint8Array(sizeBytes).fill(index) },
  ] as const
  return { type: 'app', from: 1, to: 2, term: 3, logTerm: 3, index, commit: 0, entries }
}

function heartbeat(commit: number): HeartbeatRequest {
  return { type: 'heartbeat', from: 1, to: 2, term: 3, commit, context: 0 }
}

test('frames of every size come whole through any cuts of the stream', (t) => {
  const bodies = [0, 1, 5, 300, 70_000].map((size) => systemRandom.bytes(size))
  const stream = Buffer.concat(bodies.flatMap((body) => [frameHead(2, body.length), body]))
  for (const step of [1, 3, 64, 4096, stream.length]) {
    const got: Uint8Array[] = []
    const reader = new FrameReader(70_000, (kind, body) => {
      t.is(kind, 2)
      got.push(Uint8Array.from(body))
    })
    const cut = step === 1 ? 64 : step
    for (let offset = 0; offset < 700; offset += step) {
      reader.push(stream.subarray(offset, Math.min(offset + step, 700)))
    }
    for (let offset = 700; offset < stream.length; offset += cut) {
      reader.push(stream.subarray(offset, offset + cut))
    }
    t.is(Buffer.compare(Buffer.concat(got), Buffer.concat(bodies)), 0)
    t.is(got.length, bodies.length)
  }
  const small = new FrameReader(10, () => t.fail())
  t.true(
    isSwarmError(
      t.throws(() => small.push(Buffer.from(frameHead(2, 11)))),
      'RESOURCE_EXHAUSTED',
    ),
  )
})

test('messages arrive in order and unchanged, large ones too', async (t) => {
  const [a, b] = await pair(t)
  const sizes = Array.from({ length: 200 }, (_, n) => (n % 50 === 0 ? 400_000 : 3_000))
  for (let n = 0; n < sizes.length; n += 10) {
    a.transport.send(
      'b',
      sizes.slice(n, n + 10).map((size, m) => append(n + m, size)),
    )
  }
  await until(() => b.messages.length === sizes.length)
  for (const [n, { from, message }] of b.messages.entries()) {
    t.is(from, 'a')
    const data = message.type === 'app' ? message.entries[0]?.data : undefined
    t.is(message.type === 'app' ? message.index : -1, n)
    t.is(data?.length, sizes[n])
    t.true(data?.every((byte) => byte === n % 256))
  }
})

test('a peer that is not there loses messages, and is reached when it comes', async (t) => {
  const a = await end(t, 'a')
  const place = await end(t, 'place')
  const { address } = place.transport
  await place.transport.close()
  a.transport.setPeers(new Map([['b', address]]))
  a.transport.send('b', [append(1, 10)])
  await until(() => a.lost.length >= 2)
  t.deepEqual(a.lost[0], { peer: 'b', reason: 'timeout' })
  const b = await end(t, 'b', address)
  await until(() => {
    a.transport.send('b', [append(7, 10)])
    return b.messages.length > 0
  })
  t.like(b.messages[0], { from: 'a', message: { index: 7 } })
})

test('a peer whose process ends is reported as closed, once, and is found again', async (t) => {
  const [a, b] = await pair(t)
  const { address } = b.transport
  await b.transport.close()
  await until(() => a.lost.length > 0)
  t.deepEqual(a.lost[0], { peer: 'b', reason: 'closed' })
  t.is(a.lost.filter(({ reason }) => reason === 'closed').length, 1)
  const again = await end(t, 'b', address)
  await reaching(a, again)
  t.pass()
})

/** Passes connections on to `target` until it is told to hold everything back. */
async function relay(t: ExecutionContext, target: string) {
  const sockets: Socket[] = []
  const { host, port } = parseAddress(target)
  const server: Server = createServer((near) => {
    const far = connect({ host, port })
    for (const socket of [near, far]) socket.on('error', () => {})
    near.pipe(far)
    far.pipe(near)
    sockets.push(near, far)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const bound = server.address()
  const address = `127.0.0.1:${typeof bound === 'object' ? bound?.port : 0}`
  const hold = (): void => {
    for (const socket of sockets) {
      socket.unpipe()
      socket.pause()
    }
  }
  const release = (): void => {
    for (const [n, socket] of sockets.entries()) {
      const other = sockets[n % 2 === 0 ? n + 1 : n - 1]
      if (other !== undefined) socket.pipe(other)
    }
  }
  return { address, hold, release }
}

test('a peer that falls silent is reported as timed out', async (t) => {
  const [a, b] = [await end(t, 'a'), await end(t, 'b')]
  const { address, hold } = await relay(t, b.transport.address)
  a.transport.setPeers(new Map([['b', address]]))
  await reaching(a, b)
  hold()
  await until(() => a.lost.length > 0)
  t.is(a.lost[0]?.reason, 'timeout')
})

test('what a clogged peer does not take is bounded, and heartbeats do not wait behind it', async (t) => {
  const [a, b] = [await end(t, 'a'), await end(t, 'b')]
  const { address, hold, release } = await relay(t, b.transport.address)
  a.transport.setPeers(new Map([['b', address]]))
  await reaching(a, b)
  hold()
  for (let n = 0; n < 200; n += 1) a.transport.send('b', [append(n, 500_000)])
  release()
  await until(() => {
    a.transport.send('b', [append(999, 1)])
    return b.messages.some(({ message }) => message.type === 'app' && message.index === 999)
  })
  const passed = b.messages.filter(({ message }) => message.type === 'app' && message.index < 200)
  t.true(passed.length >= 10 && passed.length <= 60, `${passed.length} of 200 passed`)
  const [c, d] = await pair(t)
  for (let n = 0; n < 16; n += 1) c.transport.send('b', [append(n, 500_000)])
  c.transport.send('b', [heartbeat(9)])
  await until(() => d.messages.some(({ message }) => message.type === 'heartbeat'))
  t.true(d.messages.filter(({ message }) => message.type === 'app').length < 16)
})

test('a snapshot arrives whole, slowly read, and resolves when it is stored', async (t) => {
  const [a, b] = await pair(t)
  const content = Buffer.from(systemRandom.bytes(6_000_000))
  const sent = sampleTransfer([content.subarray(0, 1), content.subarray(1)], content.length)
  let stored = false
  b.onSnapshot = async (from, transfer) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of contentOf(transfer)) {
      chunks.push(chunk)
      await delay(systemClock, 2)
    }
    t.is(from, 'a')
    t.true(Buffer.concat(chunks).equals(content))
    t.deepEqual(transfer.metadata, sent.metadata)
    stored = true
  }
  await a.transport.sendSnapshot('b', sent, { signal: new AbortController().signal })
  t.true(stored)
})

test('content begins where the receiver wants it, and one that wants none gets none', async (t) => {
  const [a, b] = await pair(t)
  const content = Buffer.from(systemRandom.bytes(700_000))
  const sent = sampleTransfer([content])
  const asked: number[] = []
  const read = (offset: number) => {
    asked.push(offset)
    return sent.read(offset)
  }
  let wanted: number | undefined
  b.onSnapshot = async (_from, transfer) => {
    if (wanted === undefined) return
    const chunks: Uint8Array[] = []
    for await (const chunk of contentOf(transfer, wanted)) chunks.push(chunk)
    t.true(Buffer.concat(chunks).equals(content.subarray(wanted)))
  }
  const { signal } = new AbortController()
  for (wanted of [600_001, 700_000, undefined]) {
    await a.transport.sendSnapshot('b', { ...sent, read }, { signal })
  }
  t.deepEqual(asked, [600_001, 700_000])
})

test('a snapshot that is cut short, refused, withdrawn or to nobody rejects', async (t) => {
  const [a, b] = await pair(t)
  const drain = async (_from: string, transfer: SnapshotTransfer): Promise<void> => {
    for await (const _chunk of contentOf(transfer));
  }
  const send = async (transfer: SnapshotTransfer, signal = new AbortController().signal) => {
    const failure = await t.throwsAsync(a.transport.sendSnapshot('b', transfer, { signal }))
    t.true(isSwarmError(failure))
    return failure
  }
  b.onSnapshot = drain
  const whole = sampleTransfer([new Uint8Array(10)])
  const read = async function* read(offset: number) {
    for await (const chunk of whole.read(offset)) yield chunk.subarray(1)
  }
  t.regex((await send({ ...whole, read })).message, /ends within a chunk|not wanted/)
  b.onSnapshot = () => Promise.reject(new SwarmError('STORAGE_FULL', 'disk: full'))
  t.regex((await send(sampleTransfer([new Uint8Array(10)], 10))).message, /disk: full/)
  b.onSnapshot = () => new Promise(() => {})
  const controller = new AbortController()
  const withdrawn = send(sampleTransfer([new Uint8Array(10)], 10), controller.signal)
  setImmediate(() => controller.abort())
  await withdrawn
  let ended: unknown
  const begun = Promise.withResolvers<void>()
  b.onSnapshot = async (from, transfer) => {
    begun.resolve()
    await drain(from, transfer).catch((error: unknown) => (ended = error))
    throw new SwarmError('UNAVAILABLE', 'broken off')
  }
  const broken = sampleTransfer([], 10)
  const breaking = async function* breaking() {
    yield new Uint8Array(5)
    await begun.promise
    await b.transport.close()
    yield new Uint8Array(5)
  }
  await send({ ...broken, read: breaking })
  await until(() => ended !== undefined)
  const nobody = a.transport.sendSnapshot('x', broken, { signal: controller.signal })
  t.true(isSwarmError(await t.throwsAsync(nobody), 'UNAVAILABLE'))
})

test('strangers that send nonsense are cut off', async (t) => {
  const b = await end(t, 'b')
  const { host, port } = parseAddress(b.transport.address)
  const hello = Buffer.from([0x93, 1, 0xa1, 0x61, 0xa1])
  for (const bytes of [
    frameHead(FRAME.hello, 0xffff_ffff),
    frameHead(FRAME.messages, 0),
    Buffer.concat([frameHead(FRAME.hello, 5), hello]),
  ]) {
    const socket = connect({ host, port })
    socket.on('error', () => {})
    socket.resume()
    socket.write(bytes)
    await once(socket, 'close')
  }
  t.deepEqual(b.messages, [])
})

class Lengths implements StateMachine<number> {
  lengths: number[] = []

  apply(entries: readonly CommittedEntry[]): readonly number[] {
    return entries.map(({ data }) => this.lengths.push(data.length))
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(Buffer.from(JSON.stringify(this.lengths)))
  }

  async restore(source: AsyncIterable<Uint8Array>): Promise<void> {
    const chunks: Uint8Array[] = []
    for await (const chunk of source) chunks.push(chunk)
    this.lengths = JSON.parse(Buffer.concat(chunks).toString()) as number[]
  }
}

test('a group replicates over TCP, a late member gets a snapshot, a lost leader is replaced', async (t) => {
  const ids = ['1', '2', '3', '4']
  const transports = await Promise.all(
    ids.map((id) => TcpTransport.listen(components, { id, listen: '127.0.0.1:0' })),
  )
  connectAll(
    transports.map((transport) => ({ transport })),
    ids,
  )
  const servers = ids.slice(0, 3).map((id) => ({ id, address: '', suffrage: 'voter' }) as const)
  const members = await Promise.all(
    transports.map(async (transport, n) => {
      const stores = { logStore: new MemoryLogStore(), snapshotStore: new MemorySnapshotStore() }
      if (n < 3) await Raft.bootstrap(stores, servers)
      const stateMachine = new Lengths()
      const parts = { ...stores, ...components, transport, stateMachine }
      const raft = await Raft.open(parts, { id: ids[n] ?? '', address: '', trailingEntries: 10 })
      t.teardown(() => raft.shutdown())
      return { raft, stateMachine }
    }),
  )
  const leading = () => members.find(({ raft }) => raft.role === 'leader')
  await until(() => leading() !== undefined)
  const leader = leading()
  for (let n = 1; n <= 100; n += 1) await leader?.raft.apply(new Uint8Array(n * 100))
  await leader?.raft.snapshot()
  await leader?.raft.addLearner('4', '')
  await until(() => members.every(({ stateMachine }) => stateMachine.lengths.length === 100))
  const startMs = systemClock.monotonicMs()
  await leader?.raft.shutdown()
  const rest = members.filter((one) => one !== leader)
  const next = () => rest.find(({ raft }) => raft.role === 'leader')
  await until(() => next() !== undefined)
  t.log(`a new leader after ${Math.round(systemClock.monotonicMs() - startMs)} ms`)
  await next()?.raft.apply(new Uint8Array(1))
  await until(() => rest.every(({ stateMachine }) => stateMachine.lengths.length === 101))
  t.pass()
})
