/* Transfers of snapshots that break: over TCP on real files, in memory, in a whole group. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { AssertionError, at } from '../../base/assert.ts'
import { delay, systemClock } from '../../base/clock.ts'
import { isSwarmError, SwarmError } from '../../base/errors.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom, systemRandom } from '../../base/random.ts'
import { FileSnapshotStore } from '../storage/file-snapshot-store.ts'
import { MemorySnapshotStore } from '../storage/memory-snapshot-store.ts'
import type { SnapshotStore, StoredSnapshot } from '../storage/ports.ts'
import { sampleTransfer } from '../testing/sample-transfer.ts'
import { TcpTransport } from '../transport/tcp-transport.ts'
import { MemoryCluster } from './memory-cluster.ts'
import { MemoryNetwork } from './memory-transport.ts'
import type { SnapshotTransfer, Transport } from './ports.ts'
import { SimulatedClock } from './simulated-clock.ts'
import { SNAPSHOT_CHUNK_BYTES_MAX } from './snapshot-chunks.ts'
import { SnapshotReceiver } from './snapshot-receiver.ts'
import { RESUME_WINDOW_MS, SnapshotSender, STALL_MS } from './snapshot-sender.ts'

const taker = new URL('../testing/snapshot-taker.ts', import.meta.url).pathname
const CONTENT_BYTES = 8 * 1024 * 1024

async function temporary(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'skein-snapshots-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** Puts a snapshot of `content` into `store`. */
async function stored(store: SnapshotStore, content: Uint8Array, index = 7) {
  const { metadata, membership } = sampleTransfer([])
  const sink = await store.create({ ...metadata, index }, membership)
  await sink.write(content)
  return sink.commit()
}

async function contentOf(store: SnapshotStore, id: string): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of store.read(id)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

interface Sending {
  readonly clock?: SimulatedClock
  readonly store: SnapshotStore
  readonly transport: Transport
  readonly snapshot: StoredSnapshot
  readonly isWanted?: () => boolean
}

function senderOf({ clock, store, transport, snapshot, isWanted = () => true }: Sending) {
  const { message } = sampleTransfer([])
  if (message.type !== 'snap') throw new AssertionError('it is a snapshot')
  const phases: string[] = []
  const components = { clock: clock ?? systemClock, snapshotStore: store, transport }
  const sender = new SnapshotSender(
    { ...components, log: silentLogger },
    {
      to: 'b',
      message,
      stored: snapshot,
      signal: new AbortController().signal,
      isWanted,
      onProgress: (phase) => phases.push(phase),
    },
  )
  return { sender, phases }
}

/** `transport`, whose streams of content pass through `change`. */
function changed(
  transport: Transport,
  change: (chunks: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>,
): Transport {
  return {
    start: (handler) => transport.start(handler),
    send: (to, messages) => transport.send(to, messages),
    close: () => transport.close(),
    sendSnapshot: (to, transfer, options) => {
      const read = (offset: number): AsyncIterable<Uint8Array> => change(transfer.read(offset))
      return transport.sendSnapshot(to, { ...transfer, read }, options)
    },
  }
}

/** Two TCP ends with stores on files; `b` takes what comes. */
async function tcpPair(t: ExecutionContext) {
  const components = { clock: systemClock, random: systemRandom, log: silentLogger }
  const listen = '127.0.0.1:0'
  const a = await TcpTransport.listen(components, { id: 'a', listen })
  const b = await TcpTransport.listen(components, { id: 'b', listen })
  t.teardown(() => Promise.all([a.close(), b.close()]))
  const [near, far] = await Promise.all([openStore(t), openStore(t)])
  const receiver = new SnapshotReceiver({ clock: systemClock, snapshotStore: far })
  const quiet = { onMessage: () => {}, onUnreachable: () => {} }
  const taken = { bytes: 0 }
  a.start({ ...quiet, onSnapshot: () => Promise.reject(new AssertionError('not to a')) })
  const onSnapshot = (_from: string, transfer: SnapshotTransfer): Promise<void> => {
    const read = async function* read(offset: number): AsyncGenerator<Uint8Array> {
      for await (const chunk of transfer.read(offset)) {
        taken.bytes += chunk.length
        yield chunk
      }
    }
    return receiver.receive({ ...transfer, read })
  }
  b.start({ ...quiet, onSnapshot })
  a.setPeers(new Map([['b', b.address]]))
  return { a, near, far, taken }
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = systemClock.monotonicMs() + 20_000
  while (!condition()) {
    if (systemClock.monotonicMs() > endMs) throw new Error(`not in time: ${condition.toString()}`)
    await delay(systemClock, 2)
  }
}

async function openStore(t: ExecutionContext): Promise<FileSnapshotStore> {
  const store = new FileSnapshotStore({ directory: await temporary(t) })
  await store.open()
  return store
}

test('a snapshot whose stream breaks at random places does not start anew', async (t) => {
  const { a, near, far, taken } = await tcpPair(t)
  const content = Buffer.from(systemRandom.bytes(CONTENT_BYTES))
  const snapshot = await stored(near, content)
  const random = seededRandom(7)
  const breaks = 7
  let broken = 0
  const transport = changed(a, async function* change(chunks) {
    const end = broken < breaks ? 1 + random.integer(6) : Number.POSITIVE_INFINITY
    let sentBytes = taken.bytes
    let count = 0
    for await (const chunk of chunks) {
      if (count === end) {
        broken += 1
        const part = chunk.subarray(0, random.integer(chunk.length))
        yield part
        await until(() => taken.bytes === sentBytes + part.length)
        throw new SwarmError('UNAVAILABLE', 'the cable is cut')
      }
      count += 1
      sentBytes += chunk.length
      yield chunk
    }
  })
  const { sender, phases } = senderOf({ store: near, transport, snapshot })
  await sender.run()
  t.is(broken, breaks)
  const { sentBytes, attempts } = sender.progress
  t.is(attempts, breaks + 1)
  const lostBytes = sentBytes - CONTENT_BYTES
  t.true(lostBytes <= breaks * SNAPSHOT_CHUNK_BYTES_MAX, `${lostBytes} bytes were sent again`)
  t.true(phases.filter((phase) => phase === 'resumed').length >= breaks)
  const arrived = at(await far.list(), 0)
  t.true((await contentOf(far, arrived.id)).equals(content))
  t.is(arrived.digest, snapshot.digest)
})

test('chunks that are damaged on their way are refused and fetched again', async (t) => {
  const { a, near, far } = await tcpPair(t)
  const content = Buffer.from(systemRandom.bytes(CONTENT_BYTES))
  const snapshot = await stored(near, content)
  const damagedAt = [5, 20_000, 15]
  const transport = changed(a, async function* change(chunks) {
    const position = damagedAt.pop()
    let count = 0
    for await (const chunk of chunks) {
      count += 1
      const copy = Buffer.from(chunk)
      if (count === 3 && position !== undefined) copy[position] = (copy[position] ?? 0) ^ 4
      yield copy
    }
  })
  const { sender } = senderOf({ store: near, transport, snapshot })
  await sender.run()
  t.is(sender.progress.attempts, 4)
  t.true((await contentOf(far, at(await far.list(), 0).id)).equals(content))
})

test('who has a snapshot already is sent none of it', async (t) => {
  const { a, near, far } = await tcpPair(t)
  const content = Buffer.from(systemRandom.bytes(1000))
  const snapshot = await stored(near, content)
  await stored(far, content)
  const { sender } = senderOf({ store: near, transport: a, snapshot })
  await sender.run()
  t.is(sender.progress.sentBytes, 0)
  t.is((await far.list()).length, 1)
})

test('another leader goes on with the same bytes, and starts anew with others', async (t) => {
  const content = Buffer.from(systemRandom.bytes(4 * SNAPSHOT_CHUNK_BYTES_MAX))
  for (const isSame of [true, false]) {
    const { a, near, far, taken } = await tcpPair(t)
    const snapshot = await stored(near, content)
    let sentBytes = 0
    const cut = changed(a, async function* change(chunks) {
      for await (const chunk of chunks) {
        yield chunk
        sentBytes += chunk.length
      }
      await until(() => taken.bytes === sentBytes)
      throw new SwarmError('UNAVAILABLE', 'the leader died')
    })
    const first = senderOf({ store: near, transport: cut, snapshot, isWanted: () => false })
    await t.throwsAsync(first.sender.run())
    const other = await openStore(t)
    const otherContent = Buffer.from(content)
    if (!isSame) otherContent[5] = (otherContent[5] ?? 0) ^ 1
    const second = await stored(other, otherContent)
    const { sender } = senderOf({ store: other, transport: a, snapshot: second })
    await sender.run()
    t.is(sender.progress.sentBytes, isSame ? 0 : content.length)
    t.true((await contentOf(far, at(await far.list(), 0).id)).equals(otherContent))
  }
})

test('a receiver that is killed with SIGKILL goes on where it was', async (t) => {
  const components = { clock: systemClock, random: systemRandom, log: silentLogger }
  const a = await TcpTransport.listen(components, { id: 'a', listen: '127.0.0.1:0' })
  t.teardown(() => a.close())
  const near = await openStore(t)
  const content = Buffer.from(systemRandom.bytes(CONTENT_BYTES))
  const snapshot = await stored(near, content)
  const directory = await temporary(t)
  const { sender } = senderOf({ store: near, transport: a, snapshot })
  const kills = 3
  let sending: Promise<void> | undefined
  let takenBytes = 0
  for (let life = 0; life <= kills; life += 1) {
    const child = spawn(process.execPath, [taker, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = once(child, 'exit')
    let took = 0
    for await (const line of createInterface({ input: child.stdout })) {
      if (line.startsWith('127.')) {
        a.setPeers(new Map([['b', line]]))
        sending ??= sender.run()
      } else if (line === 'stored') void sending?.finally(() => child.kill('SIGKILL'))
      else {
        took += 1
        takenBytes += Number(line.slice('took '.length))
      }
      if (life < kills && took === 6) child.kill('SIGKILL')
    }
    await exited
  }
  await sending
  const far = new FileSnapshotStore({ directory })
  await far.open()
  t.true((await contentOf(far, at(await far.list(), 0).id)).equals(content))
  t.true(sender.progress.attempts > kills)
  // What the sockets held died with the process; of what it took, two chunks a life at most.
  const lostBytes = takenBytes - CONTENT_BYTES
  t.true(lostBytes < (2 * kills + 1) * SNAPSHOT_CHUNK_BYTES_MAX, `${lostBytes} came again`)
})

test('a transfer that nobody takes ends with its window, and its snapshot is let go', async (t) => {
  const clock = new SimulatedClock({ pace: 0 })
  const network = new MemoryNetwork(clock)
  const store = new MemorySnapshotStore()
  const snapshot = await stored(store, new Uint8Array(10), 1)
  const { sender } = senderOf({ clock, store, transport: network.transport('a'), snapshot })
  let ended: unknown
  sender.run().catch((error: unknown) => (ended = error))
  await clock.advance(RESUME_WINDOW_MS - 1000)
  for (const index of [2, 3, 4]) await stored(store, new Uint8Array(10), index)
  t.is((await store.list()).length, 3)
  t.is(ended, undefined)
  await clock.advance(10_000)
  t.true(isSwarmError(ended, 'UNAVAILABLE'))
  t.is((await store.list()).length, 2)
})

test('an attempt in which nothing moves is given up, at both ends', async (t) => {
  const clock = new SimulatedClock({ pace: 0 })
  const store = new MemorySnapshotStore()
  const snapshot = await stored(store, new Uint8Array(10))
  const silent: Transport = {
    start: () => {},
    send: () => {},
    sendSnapshot: () => new Promise(() => {}),
    close: () => Promise.resolve(),
  }
  const isWanted = (): boolean => false
  const { sender } = senderOf({ clock, store, transport: silent, snapshot, isWanted })
  const receiver = new SnapshotReceiver({ clock, snapshotStore: new MemorySnapshotStore() })
  const transfer = sampleTransfer([new Uint8Array(10)])
  const never = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) }
  const ends: unknown[] = []
  sender.run().catch((error: unknown) => ends.push(error))
  receiver.receive({ ...transfer, read: () => never }).catch((error: unknown) => ends.push(error))
  await clock.advance(STALL_MS - 1000)
  t.deepEqual(ends, [])
  await clock.advance(2000)
  t.true(ends.length === 2 && ends.every((error) => isSwarmError(error, 'TIMED_OUT')))
  await receiver.receive(transfer)
  t.pass('the next one is taken')
})

test('the newest offer wins over one whose sender is gone', async (t) => {
  const clock = new SimulatedClock({ pace: 0 })
  const store = new MemorySnapshotStore()
  const receiver = new SnapshotReceiver({ clock, snapshotStore: store })
  const transfer = sampleTransfer([new Uint8Array(10), new Uint8Array(20).fill(1)])
  const half = async function* half(offset: number): AsyncGenerator<Uint8Array> {
    for await (const chunk of transfer.read(offset)) {
      yield chunk
      await new Promise(() => {})
    }
  }
  const first = receiver.receive({ ...transfer, read: half })
  const refused = t.throwsAsync(first)
  await clock.advance(10)
  const asked: number[] = []
  const read = (offset: number): AsyncIterable<Uint8Array> => {
    asked.push(offset)
    return transfer.read(offset)
  }
  await receiver.receive({ ...transfer, read })
  t.true(isSwarmError(await refused, 'UNAVAILABLE'))
  t.deepEqual(asked, [10])
  t.is((await store.list()).length, 1)
})

const small = { snapshotThreshold: 30, trailingEntries: 5 }
const numbered = (first: number, count: number): string[] =>
  Array.from({ length: count }, (_, position) => `c${first + position}`)

test('a busy leader finishes the snapshot that it began, through breaks and damage', async (t) => {
  await using cluster = await MemoryCluster.start(3, { raft: small })
  const leader = await cluster.leader()
  const behind = at(
    [...cluster.places.keys()].filter((id) => id !== leader.id),
    0,
  )
  await cluster.down(behind)
  for (let turn = 0; turn < 10; turn += 1) await cluster.apply(leader, numbered(turn * 20, 20))
  const before = leader.stats().snapshotIndex
  const { network } = cluster
  const random = seededRandom(3)
  network.snapshotChunkMs = 5
  network.breakSnapshots(4, () => 10 + random.integer(40))
  network.damageChunks(2)
  const news = leader.observe(['snapshotTransfer'])
  await cluster.up(behind)
  for (let turn = 10; turn < 40; turn += 1) {
    await cluster.apply(leader, numbered(turn * 20, 20))
    await cluster.clock.advance(50)
  }
  t.true(leader.stats().snapshotIndex > before + 300, 'newer ones were taken meanwhile')
  await cluster.converged()
  t.is(cluster.place(behind).machine.restores, 1)
  t.deepEqual(cluster.commands(behind), numbered(0, 800))
  news.close()
  const told = []
  for await (const one of news) if (one.type === 'snapshotTransfer') told.push(one)
  t.is(told.filter(({ phase }) => phase === 'finished').length, 1)
  const last = at(told, told.length - 1)
  t.like(last, { phase: 'finished', index: before, peer: behind })
  t.true(last.attempts >= 5 && last.offset === last.sizeBytes)
  t.true(last.sentBytes < 1.2 * last.sizeBytes, `${last.sentBytes} of ${last.sizeBytes}`)
  await cluster.apply(leader, numbered(800, 100))
  t.true(leader.stats().firstIndex > 700, 'the log is no longer held')
})
