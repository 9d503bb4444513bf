/** etcd's v3 API, as far as the benchmark needs it; the few Protobuf messages by hand. */
import type { Answer, Client } from './client.ts'
import { GrpcConnection } from './grpc-connection.ts'

const LENGTH_DELIMITED = 2

function varint(value: bigint): number[] {
  const bytes: number[] = []
  let rest = value
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80)
  bytes.push(Number(rest))
  return bytes
}

function bytesField(number: number, value: Uint8Array): Buffer {
  const head = [(number << 3) | LENGTH_DELIMITED, ...varint(BigInt(value.length))]
  return Buffer.concat([Buffer.from(head), value])
}

/** Fields of a message: numbers and byte strings. */
export function fieldsOf(message: Buffer): Map<number, bigint | Buffer> {
  const fields = new Map<number, bigint | Buffer>()
  let offset = 0
  const number = (): bigint => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[offset] ?? 0
      offset += 1
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return value
    }
  }
  while (offset < message.length) {
    const tag = Number(number())
    if ((tag & 7) !== LENGTH_DELIMITED) fields.set(tag >> 3, number())
    else {
      const end = Number(number()) + offset
      fields.set(tag >> 3, message.subarray(offset, end))
      offset = end
    }
  }
  return fields
}

/** What a member says of the cluster. */
export interface EtcdStatus {
  readonly member: bigint
  readonly leader: bigint
}

/** A connection to one member. */
export class EtcdClient implements Client {
  readonly #connection: GrpcConnection

  constructor(port: number) {
    this.#connection = new GrpcConnection(port)
  }

  put(key: Uint8Array, value: Uint8Array, done: (answer: Answer) => void): void {
    const request = Buffer.concat([bytesField(1, key), bytesField(2, value)])
    this.#call('/etcdserverpb.KV/Put', request, done)
  }

  get(key: Uint8Array, done: (answer: Answer) => void): void {
    this.#call('/etcdserverpb.KV/Range', bytesField(1, key), done)
  }

  status(done: (status: EtcdStatus | undefined) => void): void {
    this.#call('/etcdserverpb.Maintenance/Status', new Uint8Array(), ({ content }) => {
      if (content === undefined) return done(undefined)
      const status = fieldsOf(content)
      const header = status.get(1)
      const member = header instanceof Buffer ? fieldsOf(header).get(2) : undefined
      const leader = status.get(4)
      if (typeof member !== 'bigint') return done(undefined)
      return done({ member, leader: typeof leader === 'bigint' ? leader : 0n })
    })
  }

  /** Hands leadership to the member `target`; this one must lead. */
  moveLeader(target: bigint, done: (answer: Answer) => void): void {
    const request = Buffer.from([1 << 3, ...varint(target)])
    this.#call('/etcdserverpb.Maintenance/MoveLeader', request, done)
  }

  close(): void {
    this.#connection.close()
  }

  #call(path: string, request: Uint8Array, done: (answer: Answer) => void): void {
    this.#connection.call(path, request, (content) => {
      if (content === undefined) done({ ok: false })
      else done({ ok: true, content })
    })
  }
}
