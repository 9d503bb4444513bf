/**
 * Fewer and larger writes on a libp2p connection, on both sides of the encrypter:
 * - below it, what it gives at once leaves in one system call. libp2p hands the pieces of an
 *   encrypted message (length, cipher text, tag) to the socket one by one, and each becomes a call
 *   and a packet; joining them costs a copy of 64 KiB at most;
 * - above it, the multiplexer's window updates wait for company (`held-credit.ts`).
 * Two costs of every message are taken away besides: Noise's decoder throws and catches an error
 * after each message, when no further one follows (15 µs, most of it the stack trace); and events
 * that nobody listens to are not made.
 * Measured with raft-ts, 16 small writes in flight: 430 µs of processor time a write before, 190 µs
 * with the first (bench/raft). Source: `reference/raft.md` §5.5.
 */
import type { ConnectionEncrypter, MessageStream } from '@libp2p/interface'
import { HeldCredit } from './held-credit.ts'

/** Bytes of the length that precedes each message of Noise. */
const LENGTH_BYTES = 2
/** No message of Noise is so long: a decoder that is told of one waits for more bytes. */
const MORE_THAN_ANY_BYTES = 0x1_0000

/** Makes an encrypter, as libp2p asks for it. */
type MakeEncrypter<C, E> = (components: C) => ConnectionEncrypter<E>

type Secured<E> = Awaited<ReturnType<ConnectionEncrypter<E>['secureInbound']>>

/** The same encrypter, writing less often. `windowBytes`: the least window of a stream above. */
export function wholeWrites<C, E>(
  make: MakeEncrypter<C, E>,
  windowBytes: number,
): MakeEncrypter<C, E> {
  const holding = (secured: Secured<E>): Secured<E> => {
    holdCredit(secured.connection, windowBytes)
    waitWithoutErrors(secured.connection)
    skipUnheardEvents(secured.connection)
    return secured
  }
  return (components) => {
    const encrypter = make(components)
    const secureInbound = encrypter.secureInbound.bind(encrypter)
    const secureOutbound = encrypter.secureOutbound.bind(encrypter)
    return Object.assign(encrypter, {
      secureInbound: async (...[connection, options]: Parameters<typeof secureInbound>) => {
        joinWrites(connection)
        skipUnheardEvents(connection)
        return holding(await secureInbound(connection, options))
      },
      secureOutbound: async (...[connection, options]: Parameters<typeof secureOutbound>) => {
        joinWrites(connection)
        skipUnheardEvents(connection)
        return holding(await secureOutbound(connection, options))
      },
    })
  }
}

function joinWrites(connection: MessageStream): void {
  const send = connection.send.bind(connection)
  connection.send = (data) => send(data instanceof Uint8Array ? data : data.subarray())
}

function holdCredit(connection: MessageStream, windowBytes: number): void {
  const credit = new HeldCredit(windowBytes, connection.send.bind(connection))
  connection.send = (data) => credit.send(data) ?? !connection.writableNeedsDrain
}

/** What is read of a buffer that may hold the next message's length. */
interface Lengths {
  readonly byteLength: number
  get(index: number): number
}

/** Replaces how the length is read; a Noise of another make than this one stays as it is. */
function waitWithoutErrors(connection: MessageStream): void {
  const decoder: unknown = 'decoder' in connection ? connection.decoder : undefined
  if (typeof decoder !== 'object' || decoder === null || !('lengthDecoder' in decoder)) return
  decoder.lengthDecoder = (buffer: Lengths): number =>
    buffer.byteLength < LENGTH_BYTES ? MORE_THAN_ANY_BYTES : buffer.get(0) * 0x100 + buffer.get(1)
}

function skipUnheardEvents(connection: MessageStream): void {
  const dispatch = connection.safeDispatchEvent.bind(connection)
  connection.safeDispatchEvent = (type, detail) =>
    connection.listenerCount(type) === 0 || dispatch(type, detail)
}
