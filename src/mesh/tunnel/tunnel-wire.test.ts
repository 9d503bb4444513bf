/* Wires between two real libp2p hosts, with a relay in the middle that writes down what it sees. */
import type { Connection } from '@libp2p/interface'
import test, { type ExecutionContext } from 'ava'
import { SwarmError } from '../../base/errors.ts'
import { systemRandom } from '../../base/random.ts'
import { nodeKey } from '../../identity/node-key.ts'
import { type Host, startHost } from '../host.ts'
import type { Duplex } from '../ports.ts'
import { components, failure, until } from '../testing/swarm.ts'
import { TunnelWire, WIRE_QUEUE_BYTES, relayOf } from './tunnel-wire.ts'

const PROTOCOL = '/skein/test/1'

/** One direction: a queue of one piece, and a record of all that passed. */
class Pipe {
  readonly passed: Uint8Array[] = []
  #piece: Uint8Array | undefined
  #over: 'ended' | Error | undefined
  readonly #wake: (() => void)[] = []

  async write(piece: Uint8Array): Promise<void> {
    while (this.#piece !== undefined && this.#over === undefined) await this.#change()
    if (this.#over instanceof Error) throw this.#over
    this.passed.push(Uint8Array.from(piece))
    this.#piece = Uint8Array.from(piece)
    this.#changed()
  }

  async *read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const piece = this.#piece
      this.#piece = undefined
      this.#changed()
      if (piece !== undefined) yield piece
      else if (this.#over === 'ended') return
      else if (this.#over !== undefined) throw this.#over
      else await this.#change()
    }
  }

  finish(over: 'ended' | Error): void {
    this.#over ??= over
    this.#changed()
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve))
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}

function duplexOver(out: Pipe, back: Pipe): Duplex {
  return {
    nodeId: 'relay',
    source: { [Symbol.asyncIterator]: () => back.read() },
    write: (chunk) => out.write(chunk),
    end: () => Promise.resolve(out.finish('ended')),
    abort: (reason) => [out, back].forEach((pipe) => pipe.finish(reason)),
  }
}

interface Party {
  readonly host: Host
  readonly peerId: string
}

async function party(t: ExecutionContext): Promise<Party> {
  const privateKeySeed = systemRandom.bytes(32)
  const gate = { isMember: () => true, admitsStrangers: () => false }
  const host = await startHost(components, { privateKeySeed, listenAddresses: [] }, gate)
  t.teardown(() => host.stop())
  return { host, peerId: nodeKey(privateKeySeed).peerId }
}

interface Scene {
  readonly there: Pipe
  /** The caller's connection; rejects when the handshake fails. */
  readonly connection: Promise<Connection>
  readonly answered: Promise<void>
}

/** `caller` asks for `expected`; `answerer` answers and expects `claimed`. */
function meet(
  caller: Party,
  answerer: Party,
  { expected, claimed }: { readonly expected: Party; readonly claimed: Party },
): Scene {
  const [there, back] = [new Pipe(), new Pipe()]
  const relayPeerId = nodeKey(systemRandom.bytes(32)).peerId
  const out = new TunnelWire(duplexOver(there, back), {
    peerId: expected.peerId,
    relayPeerId,
    direction: 'outbound',
  })
  const into = new TunnelWire(duplexOver(back, there), {
    peerId: claimed.peerId,
    relayPeerId,
    direction: 'inbound',
  })
  const signal = AbortSignal.timeout(5_000)
  const abortOn =
    (wire: TunnelWire) =>
    (error: unknown): never => {
      wire.abort(new SwarmError('PERMISSION_DENIED', 'handshake failed', { cause: error }))
      throw error
    }
  return {
    there,
    connection: caller.host.upgradeOutbound(out, signal).catch(abortOn(out)),
    answered: answerer.host.upgradeInbound(into, signal).catch(abortOn(into)),
  }
}

test('who carries the bytes reads none of them', async (t) => {
  const [a, c] = [await party(t), await party(t)]
  const received: Uint8Array[] = []
  await c.host.handle(PROTOCOL, (stream) => {
    stream.addEventListener('message', ({ data }) => received.push(data.subarray()))
  })
  const scene = meet(a, c, { expected: c, claimed: a })
  const connection = await scene.connection
  await scene.answered
  t.is(connection.remotePeer.toString(), c.peerId)
  t.not(relayOf(connection), undefined)
  const stream = await connection.newStream(PROTOCOL)
  const secret = 'the password of the database'
  stream.send(Buffer.from(secret))
  await until(() => Buffer.concat(received).toString() === secret)
  const seen = Buffer.concat(scene.there.passed)
  t.true(seen.length > secret.length)
  t.false(seen.includes(secret))
  t.false(seen.includes(PROTOCOL), 'not even what is talked about')
})

test('a caller that expects somebody else hangs up', async (t) => {
  const [a, b, c] = [await party(t), await party(t), await party(t)]
  const scene = meet(a, b, { expected: c, claimed: a })
  scene.answered.catch(() => {})
  await failure(scene.connection)
  t.is(a.host.connectionCount(), 0)
})

test('a caller that is not who it claims to be is refused', async (t) => {
  const [a, b, c] = [await party(t), await party(t), await party(t)]
  const scene = meet(b, c, { expected: c, claimed: a })
  scene.connection.catch(() => {})
  await failure(scene.answered)
  t.is(c.host.connectionCount(), 0)
})

test('more than a wire’s queue passes while the far side reads slowly', async (t) => {
  const [there, back] = [new Pipe(), new Pipe()]
  const peerId = nodeKey(systemRandom.bytes(32)).peerId
  const ends = { peerId, relayPeerId: peerId, direction: 'outbound' } as const
  const wire = new TunnelWire(duplexOver(there, back), ends)
  const far = there.read()
  let drains = 0
  wire.addEventListener('drain', () => (drains += 1))
  const piece = systemRandom.bytes(48 * 1024)
  const pieces = 4 * Math.ceil(WIRE_QUEUE_BYTES / piece.length)
  let readBytes = 0
  let refused = 0
  for (let sent = 0; sent < pieces; sent += 1) {
    if (!wire.send(piece)) refused += 1
    readBytes += (await far.next()).value?.length ?? 0
    wire.send(piece)
  }
  while (readBytes < 2 * pieces * piece.length) readBytes += (await far.next()).value?.length ?? 0
  t.true(refused > 0, 'the writer was told to wait')
  t.true(drains > 0, 'and to go on')
  t.is(readBytes, 2 * pieces * piece.length)
})
