/**
 * Unary gRPC calls over HTTP/2, as little of it as etcd needs: the frames are written by hand and
 * header blocks of answers are not decoded, because a client that costs as much as the server would
 * measure itself (`node:http2` takes about 60 µs a call, this about 6). An answer without a message is a
 * failure (RFC 9113; gRPC over HTTP2, "Trailers-Only").
 */
import { connect, type Socket } from 'node:net'

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
const FRAME_HEAD_BYTES = 9
const DATA = 0
const HEADERS = 1
const RST_STREAM = 3
const SETTINGS = 4
const PING = 6
const GOAWAY = 7
const WINDOW_UPDATE = 8
const END_STREAM = 1
const ACK = 1
const END_HEADERS = 4
const WINDOW_BYTES_START = 65_535
/** Our own windows: as large as can be, so that they never matter. */
const WINDOW_BYTES_MAX = 0x7fff_ffff
const INITIAL_WINDOW_SETTING = 4
const MESSAGE_HEAD_BYTES = 5
/** First index of the dynamic table of HPACK. */
const DYNAMIC_TABLE_START = 62

interface Call {
  readonly done: (message: Buffer | undefined) => void
  message: Buffer | undefined
}

function frame(type: number, flags: number, stream: number, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + body.length)
  bytes.writeUIntBE(body.length, 0, 3)
  bytes[3] = type
  bytes[4] = flags
  bytes.writeUInt32BE(stream, 5)
  bytes.set(body, FRAME_HEAD_BYTES)
  return bytes
}

/** Header blocks of requests: what was sent once is an index from then on. */
class HeaderBlocks {
  readonly #inserted: string[] = []
  readonly #authority: string

  constructor(authority: string) {
    this.#authority = authority
  }

  of(path: string): Buffer {
    const post = Buffer.from([0x83, 0x86])
    return Buffer.concat([
      post,
      this.#field(4, path),
      this.#field(1, this.#authority),
      this.#field(31, 'application/grpc'),
      this.#field(0, 'trailers', 'te'),
    ])
  }

  /** `nameIndex` of the static table, or a name of its own. */
  #field(nameIndex: number, value: string, name = ''): Buffer {
    const key = `${nameIndex} ${value}`
    const position = this.#inserted.indexOf(key)
    if (position !== -1) {
      return Buffer.from([0x80 | (DYNAMIC_TABLE_START + this.#inserted.length - 1 - position)])
    }
    this.#inserted.push(key)
    const text = (part: string): Buffer => Buffer.from([part.length, ...Buffer.from(part)])
    const nameText = nameIndex === 0 ? text(name) : Buffer.alloc(0)
    return Buffer.concat([Buffer.from([0x40 | nameIndex]), nameText, text(value)])
  }
}

/** One HTTP/2 connection. */
export class GrpcConnection {
  readonly #socket: Socket
  readonly #blocks: HeaderBlocks
  readonly #calls = new Map<number, Call>()
  #nextStream = 1
  #queue: Buffer[] = []
  #rest: Buffer = Buffer.alloc(0)
  /** Bytes that the server takes on this connection. */
  #windowBytes = WINDOW_BYTES_START
  /** Messages that wait for the window. */
  readonly #blocked: { readonly stream: number; readonly body: Buffer }[] = []
  /** Bytes received since the server's window was renewed. */
  #received = 0
  #closed = false

  constructor(port: number) {
    this.#blocks = new HeaderBlocks(`127.0.0.1:${port}`)
    this.#socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.#socket.on('error', () => this.#onClose())
    this.#socket.on('close', () => this.#onClose())
    this.#socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    const settings = Buffer.alloc(6)
    settings.writeUInt16BE(INITIAL_WINDOW_SETTING)
    settings.writeUInt32BE(WINDOW_BYTES_MAX, 2)
    this.#socket.write(Buffer.concat([Buffer.from(PREFACE), frame(SETTINGS, 0, 0, settings)]))
    this.#renewWindow(WINDOW_BYTES_MAX - WINDOW_BYTES_START)
  }

  /** `done` gets the answer's message; `undefined` when the call failed. */
  call(path: string, message: Uint8Array, done: (message: Buffer | undefined) => void): void {
    if (this.#closed) {
      setImmediate(done, undefined)
      return
    }
    const stream = this.#nextStream
    this.#nextStream += 2
    this.#calls.set(stream, { done, message: undefined })
    const body = Buffer.allocUnsafe(MESSAGE_HEAD_BYTES + message.length)
    body[0] = 0
    body.writeUInt32BE(message.length, 1)
    body.set(message, MESSAGE_HEAD_BYTES)
    this.#write(frame(HEADERS, END_HEADERS, stream, this.#blocks.of(path)))
    this.#blocked.push({ stream, body })
    this.#sendBlocked()
  }

  close(): void {
    this.#socket.destroy()
  }

  #sendBlocked(): void {
    for (;;) {
      const [next] = this.#blocked
      if (next === undefined || next.body.length > this.#windowBytes) return
      this.#blocked.shift()
      this.#windowBytes -= next.body.length
      this.#write(frame(DATA, END_STREAM, next.stream, next.body))
    }
  }

  /** What one turn writes leaves together. */
  #write(bytes: Buffer): void {
    if (this.#queue.length === 0) {
      setImmediate(() => {
        const queue = this.#queue
        this.#queue = []
        if (!this.#closed) this.#socket.write(Buffer.concat(queue))
      })
    }
    this.#queue.push(bytes)
  }

  #onData(chunk: Buffer): void {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let offset = 0
    while (bytes.length - offset >= FRAME_HEAD_BYTES) {
      const end = offset + FRAME_HEAD_BYTES + bytes.readUIntBE(offset, 3)
      if (end > bytes.length) break
      const body = bytes.subarray(offset + FRAME_HEAD_BYTES, end)
      const flags = bytes[offset + 4] ?? 0
      this.#onFrame(bytes[offset + 3] ?? 0, flags, bytes.readUInt32BE(offset + 5), body)
      offset = end
    }
    this.#rest = bytes.subarray(offset)
  }

  #onFrame(type: number, flags: number, stream: number, body: Buffer): void {
    if (type === DATA) {
      const call = this.#calls.get(stream)
      if (call !== undefined) call.message = joined(call.message, body)
      this.#received += body.length
      if (this.#received > 0x100_0000) this.#renewWindow(this.#received)
    } else if (type === PING && (flags & ACK) === 0) this.#write(frame(PING, ACK, 0, body))
    else if (type === SETTINGS && (flags & ACK) === 0) {
      this.#write(frame(SETTINGS, ACK, 0, new Uint8Array()))
    } else if (type === WINDOW_UPDATE && stream === 0) {
      this.#windowBytes += body.readUInt32BE(0)
      this.#sendBlocked()
    } else if (type === GOAWAY) this.close()
    const ends = (type === DATA || type === HEADERS) && (flags & END_STREAM) !== 0
    if (ends || type === RST_STREAM) this.#end(stream)
  }

  #end(stream: number): void {
    const call = this.#calls.get(stream)
    this.#calls.delete(stream)
    call?.done(call.message?.subarray(MESSAGE_HEAD_BYTES))
  }

  #renewWindow(bytes: number): void {
    const body = Buffer.alloc(4)
    body.writeUInt32BE(bytes)
    this.#write(frame(WINDOW_UPDATE, 0, 0, body))
    this.#received = 0
  }

  #onClose(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { done } of this.#calls.values()) done(undefined)
    this.#calls.clear()
  }
}

function joined(before: Buffer | undefined, next: Buffer): Buffer {
  return before === undefined ? next : Buffer.concat([before, next])
}
