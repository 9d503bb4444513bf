/* Raft's transport between real meshes. */
import test from 'ava'
import { SwarmError } from '../base/errors.ts'
import { systemRandom } from '../base/random.ts'
import type { Entry } from '../raft/core/entry.ts'
import type { AppendRequest, HeartbeatRequest, Message } from '../raft/core/message.ts'
import type { SnapshotTransfer, TransportHandler } from '../raft/runtime/ports.ts'
import { contentOf, sampleTransfer } from '../raft/testing/sample-transfer.ts'
import { RaftTransport } from './raft-transport.ts'
import type { MeshHost } from './mesh.ts'
import { components, connectAll, connected, failure, loopbackMesh, until } from './testing/swarm.ts'

interface Received {
  readonly messages: { from: string; message: Message }[]
  readonly lost: { peer: string; reason: string }[]
  onSnapshot: (transfer: SnapshotTransfer) => Promise<void>
}

function receiver(): Received & { readonly handler: TransportHandler } {
  const received: Received = { messages: [], lost: [], onSnapshot: () => Promise.resolve() }
  const handler: TransportHandler = {
    onMessage: (from, message) => received.messages.push({ from, message }),
    onSnapshot: (_from, transfer) => received.onSnapshot(transfer),
    onUnreachable: (peer, reason) => received.lost.push({ peer, reason }),
  }
  return Object.assign(received, { handler })
}

function transport(mesh: MeshHost): RaftTransport {
  return new RaftTransport({ mesh, log: components.log })
}

async function pair(): Promise<[MeshHost, MeshHost]> {
  const meshes: [MeshHost, MeshHost] = [await loopbackMesh(), await loopbackMesh()]
  connectAll(meshes)
  await connected(meshes)
  return meshes
}

function plain(bytes: Uint8Array | undefined): string | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes).toString('base64')
}

function append(index: number, entries: readonly Entry[]): AppendRequest {
  return { type: 'app', from: 1, to: 2, term: 3, logTerm: 3, index, commit: 0, entries }
}

function heartbeat(commit: number): HeartbeatRequest {
  return { type: 'heartbeat', from: 1, to: 2, term: 3, commit, context: 0 }
}

test('messages arrive in order and unchanged, large appends too', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const far = receiver()
  transport(b).start(far.handler)
  const near = transport(a)
  near.start(receiver().handler)
  const messages = Array.from({ length: 200 }, (_, index) => {
    const data = systemRandom.bytes(index % 50 === 0 ? 200_000 : 3_000)
    return append(index, [{ index: index + 1, term: 3, type: 'normal', data }])
  })
  near.send(b.self.nodeId, messages)
  await until(() => far.messages.length === messages.length)
  for (const [index, { from, message }] of far.messages.entries()) {
    t.is(from, a.self.nodeId)
    const sent = messages[index]
    const got = message.type === 'app' ? message : undefined
    t.is(got?.index, sent?.index)
    t.deepEqual(plain(got?.entries[0]?.data), plain(sent?.entries[0]?.data))
  }
})

test('heartbeats that wait are replaced by the newest', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const far = receiver()
  transport(b).start(far.handler)
  const near = transport(a)
  near.start(receiver().handler)
  for (let commit = 0; commit < 100; commit += 1) near.send(b.self.nodeId, [heartbeat(commit)])
  await until(() => far.messages.length > 0)
  t.deepEqual(
    far.messages.map(({ message }) => message),
    [heartbeat(99)],
  )
})

test('a heartbeat is not behind a snapshot that goes at the same time', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const far = receiver()
  const gate = Promise.withResolvers<void>()
  far.onSnapshot = async (transfer) => {
    await gate.promise
    for await (const _chunk of contentOf(transfer));
  }
  transport(b).start(far.handler)
  const near = transport(a)
  near.start(receiver().handler)
  const chunks = Array.from({ length: 128 }, () => new Uint8Array(65_536))
  const { signal } = new AbortController()
  const sending = near.sendSnapshot(b.self.nodeId, sampleTransfer(chunks, 128 * 65_536), { signal })
  near.send(b.self.nodeId, [heartbeat(5)])
  await until(() => far.messages.length === 1, 2_000)
  gate.resolve()
  await sending
  t.pass()
})

test('a snapshot arrives whole with its description, and resolves when it is stored', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const far = receiver()
  const content = Buffer.from(systemRandom.bytes(300_000))
  const sent = sampleTransfer([content.subarray(0, 1), content.subarray(1)], content.length)
  let stored = false
  far.onSnapshot = async (transfer) => {
    const chunks: Uint8Array[] = []
    for await (const chunk of contentOf(transfer)) chunks.push(chunk)
    t.true(Buffer.concat(chunks).equals(content))
    t.deepEqual(transfer.metadata, sent.metadata)
    t.deepEqual(transfer.message, sent.message)
    t.is(Buffer.from(transfer.membership).toString(), 'members')
    stored = true
  }
  transport(b).start(far.handler)
  const near = transport(a)
  near.start(receiver().handler)
  await near.sendSnapshot(b.self.nodeId, sent, { signal: new AbortController().signal })
  t.true(stored)
})

test('content begins where the receiver wants it, and one that wants none gets none', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const far = receiver()
  const content = Buffer.from(systemRandom.bytes(700_000))
  const sent = sampleTransfer([content])
  const asked: number[] = []
  const read = (offset: number) => {
    asked.push(offset)
    return sent.read(offset)
  }
  let wanted: number | undefined = 600_001
  far.onSnapshot = async (transfer) => {
    if (wanted === undefined) return
    const chunks: Uint8Array[] = []
    for await (const chunk of contentOf(transfer, wanted)) chunks.push(chunk)
    t.true(Buffer.concat(chunks).equals(content.subarray(wanted)))
  }
  transport(b).start(far.handler)
  const near = transport(a)
  near.start(receiver().handler)
  const { signal } = new AbortController()
  for (wanted of [600_001, 700_000, undefined]) {
    await near.sendSnapshot(b.self.nodeId, { ...sent, read }, { signal })
  }
  t.deepEqual(asked, [600_001, 700_000])
})

test('a snapshot that is cut short, refused or withdrawn rejects', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const far = receiver()
  far.onSnapshot = async (transfer) => {
    for await (const _chunk of contentOf(transfer));
  }
  transport(b).start(far.handler)
  const near = transport(a)
  near.start(receiver().handler)
  const send = (transfer: SnapshotTransfer, signal = new AbortController().signal) =>
    failure(near.sendSnapshot(b.self.nodeId, transfer, { signal }))
  const cut = sampleTransfer([new Uint8Array(10)])
  const read = async function* read(offset: number) {
    for await (const chunk of cut.read(offset)) yield chunk.subarray(1)
  }
  t.is((await send({ ...cut, read })).code, 'UNAVAILABLE')
  far.onSnapshot = () => Promise.reject(new SwarmError('STORAGE_FULL', 'disk: full'))
  t.is((await send(sampleTransfer([new Uint8Array(10)], 10))).code, 'STORAGE_FULL')
  far.onSnapshot = () => new Promise(() => {})
  const controller = new AbortController()
  const withdrawn = send(sampleTransfer([new Uint8Array(10)], 10), controller.signal)
  setImmediate(() => controller.abort())
  t.truthy((await withdrawn).code)
})

test('a peer whose process ends is reported as closed', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  const near = receiver()
  transport(a).start(near.handler)
  await b.close()
  await until(() => near.lost.length === 1)
  t.deepEqual(near.lost, [{ peer: b.self.nodeId, reason: 'closed' }])
})

test('what is sent to an unreachable peer is dropped without an error', async (t) => {
  await using a = await loopbackMesh()
  const near = transport(a)
  near.start(receiver().handler)
  near.send('nobody', [heartbeat(1), append(0, [])])
  await near.close()
  near.send('nobody', [heartbeat(1)])
  t.pass()
})
