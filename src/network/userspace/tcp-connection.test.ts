/** What bytes and ends of proxied TCP connections go through, beyond the conformance suite. */
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { seededRandom } from '../../base/random.ts'
import {
  LOOPBACK,
  TestBackend,
  freePort,
  pause,
  stalled,
  until,
  virtualServer,
} from '../conformance-peers.ts'
import { UserspaceBalancer } from './balancer.ts'

/** More than all buffers between two peers hold. */
const BULK_BYTES = 16 * 1_024 * 1_024

/** A published port before one replica that runs `onClient`. */
async function published(
  t: ExecutionContext,
  onClient: (socket: Socket) => void,
): Promise<{ readonly port: number; readonly balancer: UserspaceBalancer }> {
  const replica = await TestBackend.start('replica', onClient)
  const balancer = UserspaceBalancer.create({
    clock: systemClock,
    random: seededRandom(1),
    log: silentLogger,
    dialer: { dial: () => Promise.reject(new Error('no other nodes in this test')) },
  })
  t.teardown(async () => {
    await balancer.close()
    replica.stop()
  })
  const port = await freePort()
  t.deepEqual(await balancer.apply([virtualServer(port, [replica.backend()])]), [])
  return { port, balancer }
}

async function client(port: number): Promise<Socket> {
  const socket = connect({ port, host: LOOPBACK, allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}

/** Counts bytes until the end, and those that are not `expected`. @throws when it is reset */
async function readAll(socket: Socket, expected: number): Promise<[count: number, wrong: number]> {
  let count = 0
  let wrong = 0
  socket.on('data', (chunk: Buffer) => {
    count += chunk.length
    // Nearly always all of a chunk: compared as a whole first.
    if (chunk.equals(Buffer.alloc(chunk.length, expected))) return
    wrong += chunk.filter((byte) => byte !== expected).length
  })
  await once(socket, 'end')
  return [count, wrong]
}

test('answers that wait for slow clients are not mixed with those of others', async (t) => {
  let said = 0
  const { port } = await published(t, (socket) => {
    socket.once('data', (letter: Buffer) => {
      socket.end(Buffer.alloc(BULK_BYTES, letter[0]))
      said += 1
    })
  })
  const letters = [...Buffer.from('abcdef')]
  const clients = await Promise.all(letters.map(() => client(port)))
  for (const [index, socket] of clients.entries()) socket.write(Buffer.of(letters[index] ?? 0))
  await until('all answers are on their way', () => said === clients.length)
  await pause(300)
  const read = await Promise.all(
    clients.map((socket, index) => readAll(socket, letters[index] ?? 0)),
  )
  for (const answer of read) t.deepEqual(answer, [BULK_BYTES, 0])
  for (const socket of clients) socket.end()
})

test('a client that ended first gets all of a long answer and a clean end', async (t) => {
  let sent = 0
  const { port, balancer } = await published(t, (socket) => {
    socket.resume().on('end', () => {
      socket.end(Buffer.alloc(BULK_BYTES, 'z'))
      sent += 1
    })
  })
  const socket = await client(port)
  socket.end('please')
  await until('the replica has heard the end', () => sent === 1)
  await pause(100)
  t.deepEqual(await readAll(socket, 'z'.charCodeAt(0)), [BULK_BYTES, 0])
  await until('the connection is closed', () => balancer.connections === 0)
})

test('a replica that ended first gets all that a client still says and a clean end', async (t) => {
  const heard = Promise.withResolvers<[number, number]>()
  const { port, balancer } = await published(t, (socket) => {
    socket.end('enough')
    heard.resolve(pause(200).then(() => readAll(socket, 'y'.charCodeAt(0))))
  })
  const socket = await client(port)
  await once(socket.resume(), 'end')
  socket.end(Buffer.alloc(BULK_BYTES, 'y'))
  t.deepEqual(await heard.promise, [BULK_BYTES, 0])
  await until('the connection is closed', () => balancer.connections === 0)
})

test('a client that is reset in the middle resets the replica, and the other way round', async (t) => {
  const ends: string[] = []
  const sockets: Socket[] = []
  const { port, balancer } = await published(t, (socket) => {
    sockets.push(socket)
    socket.on('error', (error) => ends.push(error.message)).on('end', () => ends.push('clean'))
    socket.resume().write('hello')
  })
  const first = await client(port)
  await once(first, 'data')
  first.resetAndDestroy()
  await until('the replica notices', () => ends.length > 0)
  t.deepEqual(ends, ['read ECONNRESET'])
  const second = await client(port)
  second.on('error', (error) => ends.push(error.message)).resume()
  await until('the replica has it', () => sockets.length === 2)
  sockets[1]?.resetAndDestroy()
  await until('the client notices', () => ends.length > 1)
  t.deepEqual(ends.slice(1), ['read ECONNRESET'])
  await until('both are closed', () => balancer.connections === 0)
})

test('a replica that does not read stops its client, and then gets every byte', async (t) => {
  const sockets: Socket[] = []
  const { port } = await published(t, (socket) => sockets.push(socket.pause()))
  const socket = await client(port)
  const chunk = Buffer.alloc(65_536, 'x')
  let written = 0
  const push = (): void => {
    while (written < 2 * BULK_BYTES && socket.write(chunk)) written += chunk.length
  }
  socket.on('drain', push)
  push()
  const held = await stalled(() => socket.bytesWritten)
  t.true(held < 2 * BULK_BYTES)
  const replica = sockets[0]
  if (replica === undefined) return t.fail()
  let heard = 0
  replica.on('data', (bytes: Buffer) => (heard += bytes.length)).resume()
  await until('all is sent', () => written >= 2 * BULK_BYTES && socket.writableLength === 0)
  await until('all is heard', () => heard === socket.bytesWritten)
  socket.destroy()
  return undefined
})
