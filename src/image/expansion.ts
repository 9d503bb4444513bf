/**
 * Decompression with limits. Format by magic bytes, never by name or media type: producers lie.
 *
 * A bomb is stopped by a cap on the output and a cap on its ratio to the input: 2 GiB of zeros are
 * 2.1 MB as gzip (1:1030) or 66 kB as zstd (1:32 500), measured. A zstd window is at most 128 MiB.
 */
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { constants, createGunzip, createZstdDecompress } from 'node:zlib'
import type { Transform } from 'node:stream'
import { SwarmError } from '../base/errors.ts'
import { systemCode } from './durable-file.ts'

/** Bounds of one expansion. */
export interface ExpansionLimits {
  /** Begins the message of an error: `layer sha256:…`. */
  readonly subject: string
  readonly maxOutputBytes: number
}

/** Output bytes for one input byte; real layers stay below 50, zeros in gzip reach 1030. */
export const MAX_EXPANSION_RATIO = 250
/** Output that any input may have, so that small files of zeros are no bomb. */
export const FREE_EXPANSION_BYTES = 256 << 20
/** log2 of the largest zstd window in bytes. */
const MAX_ZSTD_WINDOW_LOG = 27
/** Bytes that decide the format. */
const MAGIC_BYTES = 6

type Format = 'plain' | 'gzip' | 'zstd'

/**
 * The content of `source`, decompressed if it is gzip or zstd.
 * @yields its bytes
 * @throws INVALID_ARGUMENT for damaged or unsupported compression, RESOURCE_EXHAUSTED for a bomb;
 *   errors of `source` pass unchanged
 */
export async function* expanded(
  source: AsyncIterable<Uint8Array>,
  limits: ExpansionLimits,
): AsyncGenerator<Uint8Array, void> {
  const counter = { inputBytes: 0 }
  const iterator = counted(source, counter)
  try {
    const head = await readHead(iterator)
    const format = detectFormat(head, limits.subject)
    const whole = withHead(head, iterator)
    const output = format === 'plain' ? whole : decoded(whole, format, limits)
    let outputBytes = 0
    for await (const chunk of output) {
      outputBytes += chunk.length
      checkLimits(outputBytes, counter.inputBytes, limits)
      yield chunk
    }
  } finally {
    await iterator.return()
  }
}

function checkLimits(outputBytes: number, inputBytes: number, limits: ExpansionLimits): void {
  if (outputBytes > limits.maxOutputBytes) {
    throw new SwarmError(
      'RESOURCE_EXHAUSTED',
      `${limits.subject}: more than ${limits.maxOutputBytes} bytes uncompressed`,
    )
  }
  if (outputBytes > Math.max(FREE_EXPANSION_BYTES, inputBytes * MAX_EXPANSION_RATIO)) {
    throw new SwarmError(
      'RESOURCE_EXHAUSTED',
      `${limits.subject}: expands more than ${MAX_EXPANSION_RATIO} times`,
    )
  }
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  counter: { inputBytes: number },
): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of source) {
    counter.inputBytes += chunk.length
    yield chunk
  }
}

async function readHead(iterator: AsyncGenerator<Uint8Array, void>): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  let length = 0
  while (length < MAGIC_BYTES) {
    const next = await iterator.next()
    if (next.done === true) break
    parts.push(next.value)
    length += next.value.length
  }
  return Buffer.concat(parts)
}

async function* withHead(
  head: Uint8Array,
  rest: AsyncGenerator<Uint8Array, void>,
): AsyncGenerator<Uint8Array, void> {
  if (head.length > 0) yield head
  yield* rest
}

function detectFormat(head: Uint8Array, subject: string): Format {
  const magic = Buffer.from(head.subarray(0, MAGIC_BYTES)).toString('hex')
  if (magic.startsWith('1f8b')) return 'gzip'
  if (magic.startsWith('28b52ffd') || /^5.2a4d18/.test(magic)) return 'zstd'
  const unsupported = magic.startsWith('425a68') ? 'bzip2' : magic === 'fd377a585a00' ? 'xz' : ''
  if (unsupported === '') return 'plain'
  throw new SwarmError(
    'INVALID_ARGUMENT',
    `${subject}: ${unsupported} compression is not supported`,
  )
}

async function* decoded(
  source: AsyncGenerator<Uint8Array, void>,
  format: Format,
  limits: ExpansionLimits,
): AsyncGenerator<Uint8Array, void> {
  const decoder = newDecoder(format)
  const feeding = pipeline(Readable.from(source, { objectMode: false }), decoder)
  // The reader below sees the same error through the decoder; here it only must not be unhandled.
  feeding.catch(() => undefined)
  try {
    for await (const chunk of decoder) yield chunk as Uint8Array
    await feeding
  } catch (error) {
    const code = systemCode(error)
    if (code === undefined || !/^(Z_|ZSTD_)/.test(code)) throw error
    throw new SwarmError('INVALID_ARGUMENT', `${limits.subject}: ${format} data is damaged`, {
      cause: error,
    })
  } finally {
    decoder.destroy()
  }
}

function newDecoder(format: Format): Transform {
  if (format === 'gzip') return createGunzip({ chunkSize: 1 << 18 })
  const params = { [constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG }
  return createZstdDecompress({ chunkSize: 1 << 18, params })
}
