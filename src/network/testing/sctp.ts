/**
 * As much of SCTP as it takes to see who answers: the four packets that make an association, and
 * one that carries data each way, over raw sockets, since few kernels have SCTP sockets. What is
 * between the two ends (connection tracking, address translation) sees the protocol itself: tags,
 * ports, and the checksum over all. Source: RFC 9260.
 */
import { performance } from 'node:perf_hooks'
import type { RawSocket } from './netns-sockets.ts'

/** Number of the protocol. */
export const IPPROTO_SCTP = 132

const CHUNK = { data: 0, init: 1, initAck: 2, cookieEcho: 10, cookieAck: 11 } as const
const HEADER_BYTES = 12
const CHUNK_HEADER_BYTES = 4
const CHECKSUM_AT = 8
const INIT_BYTES = 16
const PARAMETER_COOKIE = 7
/** Begins and ends its message. */
const DATA_FLAGS = 3
const DATA_HEADER_BYTES = 12
const WINDOW = 65_536
const ANSWER_MS = 3_000
/** Reversed polynomial of CRC-32C. */
const POLYNOMIAL = 0x82f6_3b78

/** A packet with its first chunk. */
interface SctpPacket {
  readonly sourcePort: number
  readonly destinationPort: number
  readonly tag: number
  readonly type: number
  readonly body: Uint8Array
}

/** Answers associations until closed; data is answered with `name` and the client's address. */
export async function serveSctp(socket: RawSocket, name: string, port: number): Promise<void> {
  for (;;) {
    const received = await socket.receive()
    if (received === 'closed') return
    const packet = received === undefined ? undefined : decode(received.bytes)
    if (received === undefined || packet?.destinationPort !== port) continue
    const answer = answerTo(packet, `${name} ${received.from}`)
    if (answer === undefined) continue
    const { sourcePort: destinationPort } = packet
    const tag = answer.type === CHUNK.initAck ? new DataView(packet.body.buffer).getUint32(0) : TAG
    socket.send(encode({ ...answer, sourcePort: port, destinationPort, tag }), received.from)
  }
}

/** Tag of both ends: who answers need not remember the other's. */
const TAG = 0x5ce1_0001

function answerTo(packet: SctpPacket, text: string): Pick<SctpPacket, 'type' | 'body'> | undefined {
  switch (packet.type) {
    case CHUNK.init:
      return { type: CHUNK.initAck, body: joined(initBody(), parameter(PARAMETER_COOKIE, text)) }
    case CHUNK.cookieEcho:
      return { type: CHUNK.cookieAck, body: new Uint8Array() }
    case CHUNK.data:
      return { type: CHUNK.data, body: dataBody(text) }
    default:
      return undefined
  }
}

/**
 * Associates from `port` with `to`, sends data twice, and gives the two answers. @throws when there
 * is none
 */
export async function askBySctp(
  socket: RawSocket,
  port: number,
  to: { readonly host: string; readonly port: number },
): Promise<readonly string[]> {
  const exchange = async (type: number, body: Uint8Array): Promise<SctpPacket> => {
    const tag = type === CHUNK.init ? 0 : TAG
    const addressing = { sourcePort: port, destinationPort: to.port, tag }
    socket.send(encode({ ...addressing, type, body }), to.host)
    const endMs = performance.now() + ANSWER_MS
    while (performance.now() < endMs) {
      const received = await socket.receive()
      if (received === 'closed') break
      const packet = received === undefined ? undefined : decode(received.bytes)
      const isAnswer = packet?.sourcePort === to.port && packet.destinationPort === port
      if (packet !== undefined && isAnswer && received?.from === to.host) return packet
    }
    throw new Error(`SCTP: no answer from ${to.host}:${to.port}`)
  }
  const { body } = await exchange(CHUNK.init, initBody())
  await exchange(CHUNK.cookieEcho, body.subarray(INIT_BYTES + CHUNK_HEADER_BYTES))
  const answers: string[] = []
  for (const text of ['first', 'second']) {
    const { body: data } = await exchange(CHUNK.data, dataBody(text))
    answers.push(textOf(data.subarray(DATA_HEADER_BYTES)))
  }
  return answers
}

function initBody(): Uint8Array {
  const view = new DataView(new ArrayBuffer(INIT_BYTES))
  view.setUint32(0, TAG)
  view.setUint32(4, WINDOW)
  view.setUint16(8, 1)
  view.setUint16(10, 1)
  view.setUint32(12, 1)
  return new Uint8Array(view.buffer)
}

function dataBody(text: string): Uint8Array {
  return joined(new Uint8Array(DATA_HEADER_BYTES), new TextEncoder().encode(text))
}

function parameter(type: number, text: string): Uint8Array {
  const value = new TextEncoder().encode(text)
  const head = new DataView(new ArrayBuffer(CHUNK_HEADER_BYTES))
  head.setUint16(0, type)
  head.setUint16(2, CHUNK_HEADER_BYTES + value.length)
  return joined(new Uint8Array(head.buffer), value)
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes)
}

function encode({ sourcePort, destinationPort, tag, type, body }: SctpPacket): Uint8Array {
  const length = CHUNK_HEADER_BYTES + body.length
  const bytes = new Uint8Array(HEADER_BYTES + Math.ceil(length / 4) * 4)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, sourcePort)
  view.setUint16(2, destinationPort)
  view.setUint32(4, tag)
  view.setUint8(HEADER_BYTES, type)
  view.setUint8(HEADER_BYTES + 1, type === CHUNK.data ? DATA_FLAGS : 0)
  view.setUint16(HEADER_BYTES + 2, length)
  bytes.set(body, HEADER_BYTES + CHUNK_HEADER_BYTES)
  view.setUint32(CHECKSUM_AT, checksum(bytes), true)
  return bytes
}

/** Undefined: its checksum is wrong, so whoever changed it on the way made a mistake. */
function decode(received: Uint8Array): SctpPacket | undefined {
  const bytes = Uint8Array.from(received)
  if (bytes.length < HEADER_BYTES + CHUNK_HEADER_BYTES) return undefined
  const view = new DataView(bytes.buffer)
  const stated = view.getUint32(CHECKSUM_AT, true)
  view.setUint32(CHECKSUM_AT, 0)
  if (checksum(bytes) !== stated) return undefined
  const end = HEADER_BYTES + view.getUint16(HEADER_BYTES + 2)
  return {
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    tag: view.getUint32(4),
    type: view.getUint8(HEADER_BYTES),
    body: bytes.slice(HEADER_BYTES + CHUNK_HEADER_BYTES, end),
  }
}

/** CRC-32C. */
function checksum(bytes: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0)
  }
  return ~crc >>> 0
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts))
}
