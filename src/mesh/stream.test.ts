/* Byte streams between real meshes: content, ends, errors, back-pressure, bounded memory. */
import { createHash } from 'node:crypto'
import test from 'ava'
import { SwarmError } from '../base/errors.ts'
import { systemRandom } from '../base/random.ts'
import { READ_BUFFER_BYTES_MAX, STREAM_WINDOW_BYTES, WRITE_BUFFER_BYTES_MAX } from './host.ts'
import type { MeshHost } from './mesh.ts'
import type { Duplex } from './ports.ts'
import { connectAll, connected, failure, loopbackMesh, pause, until } from './testing/swarm.ts'

const MIB = 1024 * 1024

async function pair(): Promise<[MeshHost, MeshHost]> {
  const meshes: [MeshHost, MeshHost] = [await loopbackMesh(), await loopbackMesh()]
  connectAll(meshes)
  await connected(meshes)
  return meshes
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk)
  return Buffer.concat(chunks)
}

test('bytes pass both ways, and each side sees the other’s end', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const sent = systemRandom.bytes(200_000)
  const received = Promise.withResolvers<{ header: unknown; from: string; body: Buffer }>()
  b.handleStream('copy', async (header, stream) => {
    const body = await collect(stream.source)
    received.resolve({ header, from: stream.nodeId, body })
    await stream.write(body.subarray(0, 70_000))
    await stream.write(body.subarray(70_000))
  })
  const stream = await a.openStream(b.self.nodeId, 'copy', { name: 'x' })
  await stream.write(sent)
  await stream.end()
  t.true(Buffer.from(sent).equals(await collect(stream.source)))
  const { header, from, body } = await received.promise
  t.deepEqual(header, { name: 'x' })
  t.is(from, a.self.nodeId)
  t.true(Buffer.from(sent).equals(body))
})

test('a stream without a handler is refused with UNIMPLEMENTED', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  t.is((await failure(a.openStream(b.self.nodeId, 'absent', null))).code, 'UNIMPLEMENTED')
  t.is((await failure(a.openStream('nobody', 'absent', null))).code, 'UNAVAILABLE')
})

test('a handler’s error reaches the reader after the data before it', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  b.handleStream('half', async (_header, stream) => {
    await stream.write(new Uint8Array(300_000))
    throw new SwarmError('NOT_FOUND', 'chunk: is not here')
  })
  const stream = await a.openStream(b.self.nodeId, 'half', null)
  let bytes = 0
  const error = await failure(
    (async () => {
      for await (const chunk of stream.source) {
        bytes += chunk.length
        await pause(1)
      }
    })(),
  )
  t.is(bytes, 300_000)
  t.is(error.code, 'NOT_FOUND')
})

test('an aborted stream throws on both sides', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  const far = Promise.withResolvers<Error & { readonly code?: string }>()
  b.handleStream('sink', async (_header, stream) => {
    far.resolve(await failure(collect(stream.source)))
  })
  const stream = await a.openStream(b.self.nodeId, 'sink', null)
  await stream.write(new Uint8Array(10))
  stream.abort(new Error('enough'))
  t.is((await far.promise).code, 'UNAVAILABLE')
  t.is((await failure(stream.write(new Uint8Array(1)))).code, 'UNAVAILABLE')
})

test('a lost connection is never taken for an end', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  b.handleStream('source', async (_header, stream) => {
    await stream.write(new Uint8Array(1_000))
    await new Promise(() => {})
  })
  const stream = await a.openStream(b.self.nodeId, 'source', null)
  const reading = failure(collect(stream.source))
  await pause(50)
  await b.close()
  t.is((await reading).code, 'UNAVAILABLE')
})

test('a slow reader holds the writer up, memory stays bounded, and nothing is lost', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  b.handle('ping', () => Promise.resolve('pong'))
  const gate = Promise.withResolvers<void>()
  const digest = Promise.withResolvers<string>()
  b.handleStream('slow', async (_header, stream) => {
    await gate.promise
    const hash = createHash('sha256')
    for await (const chunk of stream.source) hash.update(chunk)
    digest.resolve(hash.digest('hex'))
  })
  const stream = await a.openStream(b.self.nodeId, 'slow', null)
  const total = 48 * MIB
  const hash = createHash('sha256')
  let accepted = 0
  const writing = (async () => {
    for (let sent = 0; sent < total; sent += MIB) {
      const chunk = systemRandom.bytes(MIB)
      hash.update(chunk)
      for (let offset = 0; offset < MIB; offset += 65_536) {
        await stream.write(chunk.subarray(offset, offset + 65_536))
        accepted += 65_536
      }
    }
    await stream.end()
  })()
  await pause(500)
  t.true(accepted < 2 * MIB, `${accepted} bytes were accepted while nobody read`)
  t.is(await a.request(b.self.nodeId, 'ping', null), 'pong')
  t.is(a.peers()[0]?.reachable, true)
  gate.resolve()
  await writing
  t.is(await digest.promise, hash.digest('hex'))
})

test('one slow stream does not hold up others, nor requests', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  b.handle('ping', () => Promise.resolve('pong'))
  const stuck: Duplex[] = []
  b.handleStream('stuck', async (_header, stream) => {
    stuck.push(stream)
    await new Promise(() => {})
  })
  b.handleStream('count', async (_header, stream) => {
    const { length } = await collect(stream.source)
    await stream.write(Buffer.from(String(length)))
  })
  const clogged = await Promise.all(
    Array.from({ length: 8 }, () => a.openStream(b.self.nodeId, 'stuck', null)),
  )
  const writes = clogged.map((stream) => failure(stream.write(new Uint8Array(4 * MIB))))
  await until(() => stuck.length === 8)
  const stream = await a.openStream(b.self.nodeId, 'count', null)
  await stream.write(new Uint8Array(5 * MIB))
  await stream.end()
  t.is((await collect(stream.source)).toString(), String(5 * MIB))
  t.is(await a.request(b.self.nodeId, 'ping', null), 'pong')
  for (const one of clogged) one.abort(new Error('done'))
  await Promise.all(writes)
})

test('a reader that pauses again and again gets everything', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  b.handleStream('source', async (_header, stream) => {
    for (let sent = 0; sent < 8; sent += 1) await stream.write(new Uint8Array(MIB).fill(sent))
  })
  const stream = await a.openStream(b.self.nodeId, 'source', null)
  await stream.end()
  let bytes = 0
  let chunks = 0
  for await (const chunk of stream.source) {
    bytes += chunk.length
    chunks += 1
    if (chunks % 20 === 0) await pause(5)
  }
  t.is(bytes, 8 * MIB)
})

test('a handler that returns early does not hold its writer up', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  b.handleStream('short', async (_header, stream) => {
    await stream.write(Buffer.from('enough'))
  })
  const stream = await a.openStream(b.self.nodeId, 'short', null)
  await stream.write(new Uint8Array(3 * MIB))
  await stream.end()
  t.is((await collect(stream.source)).toString(), 'enough')
})

test('opening a stream is given up at its deadline', async (t) => {
  const [a, b] = await pair()
  await using _a = a
  await using _b = b
  b.handleStream('x', () => Promise.resolve())
  const controller = new AbortController()
  controller.abort()
  const opening = a.openStream(b.self.nodeId, 'x', null, { signal: controller.signal })
  t.is((await failure(opening)).code, 'ABORTED')
})

test('the stream’s limits fit each other', (t) => {
  t.true(STREAM_WINDOW_BYTES * 2 <= READ_BUFFER_BYTES_MAX)
  t.true(STREAM_WINDOW_BYTES < WRITE_BUFFER_BYTES_MAX)
})
