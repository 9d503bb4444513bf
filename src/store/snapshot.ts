/**
 * The bytes of a snapshot: frames of a 4-byte big-endian length and MessagePack. The first frame is
 * the header, then lists of objects or requests, then an end mark, so that a cut file is noticed.
 * Objects stand in order of id: equal stores have equal bytes. Readers accept any cutting into
 * chunks.
 */
import { SwarmError } from '../base/errors.ts'
import { pack, unpack } from './codec.ts'
import type { TableName, Tables } from './objects.ts'
import { isRecord } from './plain-value.ts'
import { objectFault } from './shape.ts'
import type { StoreImage } from './store.ts'
import type { TransactionResult } from './transaction.ts'

/** Version of this format, in the header. */
export const SNAPSHOT_FORMAT = 1

/** Objects or requests in one frame; writing yields between frames. */
export const SNAPSHOT_FRAME_ITEMS = 100

/** Most bytes of one frame; a longer one is damage. Above 100 objects of the largest size. */
export const SNAPSHOT_FRAME_BYTES_MAX = 256 * 1024 * 1024

const TABLES: readonly TableName[] = ['cluster', 'nodes', 'networks', 'services', 'tasks']
const LENGTH_BYTES = 4

/**
 * The bytes of `image`.
 * @yields frames
 */
export async function* writeSnapshot(image: StoreImage): AsyncGenerator<Uint8Array> {
  yield frame({ type: 'skein store', format: SNAPSHOT_FORMAT, index: image.index })
  for (const table of TABLES) {
    for (const items of slices<unknown>(image.tables[table])) yield frame({ type: table, items })
  }
  for (const items of slices<unknown>(image.requests)) yield frame({ type: 'requests', items })
  yield frame({ type: 'end' })
}

/** The image in `source`. @throws STORAGE_CORRUPT */
export async function readSnapshot(source: AsyncIterable<Uint8Array>): Promise<StoreImage> {
  const reader = new ImageReader()
  for await (const body of frames(source)) reader.onFrame(decodeFrame(body))
  return reader.finish()
}

/** Collects frames; knows what may come next. */
class ImageReader {
  #status: 'header' | 'body' | 'end' = 'header'
  #index = 0
  readonly #lists: { [T in TableName]: Tables[T][] } = {
    cluster: [],
    nodes: [],
    networks: [],
    services: [],
    tasks: [],
  }
  readonly #requests: (readonly [string, TransactionResult])[] = []

  onFrame(value: Readonly<Record<string, unknown>>): void {
    if (this.#status === 'end') throw corrupt('there is more after the end mark')
    if (this.#status === 'header') this.#onHeader(value)
    else if (value['type'] === 'end') this.#status = 'end'
    else this.#onItems(value)
  }

  finish(): StoreImage {
    if (this.#status !== 'end') throw corrupt('the end is missing')
    return { index: this.#index, tables: this.#lists, requests: this.#requests }
  }

  #onHeader(value: Readonly<Record<string, unknown>>): void {
    const { type, format, index } = value
    if (type !== 'skein store') throw corrupt('the header is missing')
    if (format !== SNAPSHOT_FORMAT) throw corrupt(`unknown format ${String(format)}`)
    if (typeof index !== 'number') throw corrupt('the index is missing')
    this.#index = index
    this.#status = 'body'
  }

  #onItems(value: Readonly<Record<string, unknown>>): void {
    const { type, items } = value
    if (!Array.isArray(items)) throw corrupt('a frame has no items')
    for (const item of items as readonly unknown[]) this.#onItem(type, item)
  }

  #onItem(type: unknown, item: unknown): void {
    if (type === 'requests') {
      this.#requests.push(asRequest(item))
      return
    }
    const table = TABLES.find((name) => name === type)
    if (table === undefined) throw corrupt(`unknown table ${String(type)}`)
    const fault = objectFault(table, item)
    if (fault !== undefined) throw corrupt(`an object of ${table}: ${fault}`)
    const list = this.#lists[table] as unknown[]
    list.push(item)
  }
}

function asRequest(item: unknown): readonly [string, TransactionResult] {
  if (!Array.isArray(item) || typeof item[0] !== 'string' || !isRecord(item[1])) {
    throw corrupt('a request is malformed')
  }
  return item as unknown as readonly [string, TransactionResult]
}

function* slices<T>(items: readonly T[]): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += SNAPSHOT_FRAME_ITEMS) {
    yield items.slice(start, start + SNAPSHOT_FRAME_ITEMS)
  }
}

function frame(value: unknown): Uint8Array {
  const body = pack(value)
  const bytes = new Uint8Array(LENGTH_BYTES + body.length)
  new DataView(bytes.buffer).setUint32(0, body.length)
  bytes.set(body, LENGTH_BYTES)
  return bytes
}

function decodeFrame(body: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = unpack(body)
  } catch (error) {
    throw new SwarmError('STORAGE_CORRUPT', 'store snapshot: a frame is damaged', { cause: error })
  }
  if (!isRecord(value)) throw corrupt('a frame is no record')
  return value
}

/**
 * Cuts a byte stream of any chunking into frame bodies.
 * @yields bodies, without their length
 */
async function* frames(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let pending: Uint8Array[] = []
  let available = 0
  let needed = LENGTH_BYTES
  for await (const chunk of source) {
    pending.push(chunk)
    available += chunk.length
    if (available < needed) continue
    let rest = Buffer.concat(pending)
    for (;;) {
      needed = frameBytes(rest)
      if (rest.length < needed || rest.length < LENGTH_BYTES) break
      yield rest.subarray(LENGTH_BYTES, needed)
      rest = rest.subarray(needed)
    }
    pending = [rest]
    available = rest.length
  }
  if (available > 0) throw corrupt('the last frame is cut')
}

/** Bytes of the frame that begins `buffer`, its length included; as far as it is known. */
function frameBytes(buffer: Buffer): number {
  if (buffer.length < LENGTH_BYTES) return LENGTH_BYTES
  const length = buffer.readUInt32BE(0)
  if (length > SNAPSHOT_FRAME_BYTES_MAX) throw corrupt('a frame is longer than its limit')
  return LENGTH_BYTES + length
}

function corrupt(reason: string): SwarmError {
  return new SwarmError('STORAGE_CORRUPT', `store snapshot: ${reason}`)
}
