/* Tunnels between real meshes whose wires are cut, silenced and mended. */
import { createHash } from 'node:crypto'
import test from 'ava'
import { systemClock } from '../../base/clock.ts'
import { systemRandom } from '../../base/random.ts'
import type { MeshHost } from '../mesh.ts'
import { RuggedWires } from '../testing/rugged-wires.ts'
import { failure, pause, until } from '../testing/swarm.ts'
import { TUNNELS_PER_PEER_MAX } from './relay.ts'
import { AVOID_MS } from './route-finder.ts'
import { TUNNEL_STREAM, TUNNEL_TIMEOUT_MS } from './tunnels.ts'

const [A, B, C, D] = [0, 1, 2, 3] as const
const MIB = 1024 * 1024

function answerWho(meshes: readonly MeshHost[]): void {
  for (const mesh of meshes) {
    mesh.handle('who', (body, from) => Promise.resolve({ body, from, me: mesh.self.nodeId }))
  }
}

test.serial('a member behind another one is reached through it, and knows who asks', async (t) => {
  await using net = await RuggedWires.make(3, [[A, C]])
  answerWho(net.meshes)
  net.join()
  await until(() => net.way(A, C) === B && net.way(C, A) === B)
  t.is(net.way(A, B), 'direct')
  for (const [from, to] of [
    [A, C],
    [C, A],
  ] as const) {
    const answer = await net.mesh(from).request(net.id(to), 'who', from)
    t.deepEqual(answer, { body: from, from: net.id(from), me: net.id(to) })
  }
})

test.serial('Raft frames go through a tunnel', async (t) => {
  await using net = await RuggedWires.make(3, [[A, C]])
  const frames: string[] = []
  net.mesh(C).raft.setReceiver({
    onFrame: (from, body) => frames.push(`${from} ${Buffer.from(body).toString()}`),
    onLost: () => {},
  })
  net.join()
  await until(() => net.way(A, C) === B)
  t.true(net.mesh(A).raft.send(net.id(C), Buffer.from('vote')))
  await until(() => frames.length > 0)
  t.deepEqual(frames, [`${net.id(A)} vote`])
})

test.serial('20 MB arrive whole at a slow reader, and the writer waits for it', async (t) => {
  await using net = await RuggedWires.make(3, [[A, C]])
  const received = Promise.withResolvers<string>()
  let readBytes = 0
  const gate = Promise.withResolvers<void>()
  net.mesh(C).handleStream('take', async (_header, stream) => {
    const hash = createHash('sha256')
    for await (const chunk of stream.source) {
      if (readBytes === 0) await gate.promise
      readBytes += chunk.length
      hash.update(chunk)
    }
    received.resolve(hash.digest('hex'))
  })
  net.join()
  await until(() => net.way(A, C) === B)
  const stream = await net.mesh(A).openStream(net.id(C), 'take', null)
  const piece = Buffer.from(systemRandom.bytes(MIB))
  const hash = createHash('sha256')
  let writtenBytes = 0
  const writing = (async () => {
    for (let index = 0; index < 20; index += 1) {
      await stream.write(piece)
      hash.update(piece)
      writtenBytes += piece.length
    }
    await stream.end()
  })()
  await pause(500)
  t.is(writtenBytes, 0, 'no MiB is accepted while nobody reads: the credit is a quarter of it')
  gate.resolve()
  await writing
  t.is(await received.promise, hash.digest('hex'))
  t.is(readBytes, 20 * MIB)
})

test.serial(
  'a relay that dies silently is replaced by another within the liveness time',
  async (t) => {
    await using net = await RuggedWires.make(4, [[A, C]])
    answerWho(net.meshes)
    net.join()
    await until(() => net.way(A, C) !== 'none' && net.way(C, A) !== 'none')
    await until(() => net.way(A, B) === 'direct' && net.way(A, D) === 'direct')
    await until(() => net.way(C, B) === 'direct' && net.way(C, D) === 'direct')
    const relay = net.way(A, C) as number
    const other = relay === B ? D : B
    const silentMs = systemClock.monotonicMs()
    net.setNode(relay, 'silent')
    await until(() => net.way(A, C) === other)
    const tookMs = systemClock.monotonicMs() - silentMs
    t.log(`other relay after ${Math.round(tookMs)} ms`)
    t.true(tookMs < 5_000)
    const answer = await net.mesh(A).request(net.id(C), 'who', 1)
    t.deepEqual(answer, { body: 1, from: net.id(A), me: net.id(C) })
  },
)

test.serial('a mended wire takes over, and no request is lost on the way', async (t) => {
  await using net = await RuggedWires.make(3, [[A, C]])
  net.mesh(C).handle('slow', async (body) => {
    await pause(40)
    return body
  })
  net.join()
  await until(() => net.way(A, C) === B && net.way(C, A) === B)
  const lost: boolean[] = []
  net.mesh(A).onPeer(({ nodeId, reachable }) => nodeId === net.id(C) && lost.push(!reachable))
  let asked = 0
  const work = new AbortController()
  const failures: Error[] = []
  const client = async (): Promise<void> => {
    while (!work.signal.aborted) {
      asked += 1
      const number = asked
      const answer = await net
        .mesh(A)
        .request(net.id(C), 'slow', number)
        .catch((error: Error) => error)
      if (answer !== number) failures.push(answer as Error)
    }
  }
  const clients = Promise.all(Array.from({ length: 8 }, client))
  net.set([A, C], 'whole')
  await until(() => net.way(A, C) === 'direct' && net.way(C, A) === 'direct')
  // The tunnel stays while anybody waits, and is dropped when nobody does.
  await pause(2_500)
  work.abort()
  await clients
  t.deepEqual(failures, [])
  t.true(asked > 100)
  t.deepEqual(lost, [false], 'one change of the way, and never out of reach')
  await until(() => net.mesh(A).connectionCount() === 2)
})

test.serial('a cut wire is replaced by a tunnel, and both ends see it', async (t) => {
  await using net = await RuggedWires.make(3)
  answerWho(net.meshes)
  net.join()
  await until(() => net.way(A, C) === 'direct' && net.way(B, C) === 'direct')
  await until(() => net.way(A, B) === 'direct')
  net.set([A, C], 'cut')
  await until(() => net.way(A, C) === B && net.way(C, A) === B)
  t.like(await net.mesh(A).request(net.id(C), 'who', 1), { me: net.id(C) })
})

test.serial('a dead member is not reached through one that has not noticed', async (t) => {
  const late = { timers: { deadAfterMs: 60_000 } }
  // C as well: what it says when it gives up passes these wires, as it would no cable.
  await using net = await RuggedWires.make(3, [], (index) => (index === A ? {} : late))
  net.join()
  await until(() => net.way(A, C) === 'direct' && net.way(B, C) === 'direct')
  await until(() => net.way(A, B) === 'direct')
  const ways: unknown[] = []
  net.mesh(A).onPeer(({ nodeId, reachable, via }) => {
    if (nodeId === net.id(C)) ways.push(reachable ? (via ?? 'direct') : 'none')
  })
  net.setNode(C, 'silent')
  await until(() => net.way(A, C) === 'none', 5_000)
  // The way through B fails, is left out for a while, and is tried again.
  await pause(TUNNEL_TIMEOUT_MS + AVOID_MS + 2_000)
  t.is(net.way(B, C), 'direct', 'so it claims')
  t.deepEqual(ways, ['none'])
  net.set([B, C], 'whole')
  await until(() => net.way(A, C) === B, 20_000)
})

test.serial('two relays in a row carry a tunnel', async (t) => {
  await using net = await RuggedWires.make(4, [
    [A, C],
    [A, D],
    [B, D],
  ])
  answerWho(net.meshes)
  net.join()
  await until(() => net.way(A, D) === B && net.way(D, A) === C, 20_000)
  t.like(await net.mesh(A).request(net.id(D), 'who', 1), { from: net.id(A), me: net.id(D) })
  t.like(await net.mesh(D).request(net.id(A), 'who', 1), { from: net.id(D), me: net.id(A) })
})

test.serial('who is no member cannot use a relay, nor be reached through one', async (t) => {
  await using net = await RuggedWires.make(4, [[A, C]])
  const members = net.meshes.slice(0, 3)
  net.join()
  // D knows everybody; the others do not know D.
  for (const [index, mesh] of members.entries()) {
    mesh.setMembers(members.filter((_, other) => other !== index).map((other) => other.self))
  }
  await pause(300)
  t.deepEqual([net.way(D, A), net.way(D, B), net.way(D, C)], ['none', 'none', 'none'])
  const [a, b, c, d] = [net.id(A), net.id(B), net.id(C), net.id(D)]
  await until(() => net.way(A, B) === 'direct')
  for (const [path, code] of [
    [[a, b, d], 'PERMISSION_DENIED'],
    [[c, b, a], 'PERMISSION_DENIED'],
    [[a, b, a], 'INVALID_ARGUMENT'],
    [[a, b], 'INVALID_ARGUMENT'],
    [[a, b, c, d, 'e'], 'INVALID_ARGUMENT'],
    [[a, c, b], 'INVALID_ARGUMENT'],
  ] as const) {
    const stream = await net.mesh(A).openStream(b, TUNNEL_STREAM, { path, at: 1 })
    const error = await failure(stream.source[Symbol.asyncIterator]().next())
    t.is(error.code, code, path.join())
  }
})

test.serial('a relay cannot pose as one of the ends', async (t) => {
  await using net = await RuggedWires.make(3, [[A, C]])
  net.join()
  await until(() => net.way(B, C) === 'direct' && net.way(A, C) === B)
  net.mesh(A).setMembers([])
  await until(() => net.way(C, A) === 'none')
  const path = [net.id(A), net.id(B), net.id(C)]
  const stream = await net.mesh(B).openStream(net.id(C), TUNNEL_STREAM, { path, at: 2 })
  // B plays A's part of the protocol up to the proof of the key, which it does not have.
  await stream.write(Buffer.from('\u0013/multistream/1.0.0\n\u0007/noise\n'))
  await stream.write(Buffer.concat([Buffer.from([0, 32]), Buffer.from(systemRandom.bytes(32))]))
  await stream.write(Buffer.concat([Buffer.from([0, 200]), Buffer.from(systemRandom.bytes(200))]))
  const error = await failure(
    (async () => {
      for await (const chunk of stream.source) t.true(chunk.length > 0)
      throw new Error('the stream ended well')
    })(),
  )
  t.not(error.message, 'the stream ended well')
  t.is(net.way(C, A), 'none')
})

test.serial('a relay carries a limited number of tunnels for one neighbour', async (t) => {
  await using net = await RuggedWires.make(3, [[A, C]])
  net.join()
  await until(() => net.way(A, C) === B && net.way(B, C) === 'direct')
  const place = { path: [net.id(A), net.id(B), net.id(C)], at: 1 }
  const ends: Promise<string>[] = []
  for (let index = 0; index <= TUNNELS_PER_PEER_MAX; index += 1) {
    const stream = await net.mesh(A).openStream(net.id(B), TUNNEL_STREAM, place)
    ends.push(failure(stream.source[Symbol.asyncIterator]().next()).then((e) => e.message))
  }
  const first = await Promise.race(ends)
  t.regex(first, /carries as many as it may/)
  t.is(net.way(A, C), B, 'those that run go on')
})

test.serial('a member that is removed loses its tunnels', async (t) => {
  await using net = await RuggedWires.make(3, [[A, C]])
  net.join()
  await until(() => net.way(A, C) === B && net.way(C, A) === B)
  net.mesh(B).setMembers([net.mesh(C).self])
  await until(() => net.way(A, C) === 'none' && net.way(C, A) === 'none')
  t.is(net.way(C, B), 'direct')
})
