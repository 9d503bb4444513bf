/**
 * Unpacks one layer blob: the daemon streams, checks and decompresses; a chrooted child
 * (`child.ts`) writes the files.
 *
 * Invariants: the blob's digest and the uncompressed digest (diff_id) are both checked before the
 * caller sees success; limits hold on output bytes, ratio, entries and time; on any failure the
 * child is gone when the promise rejects (what it wrote is the caller's to delete).
 */
import { spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { createHash } from 'node:crypto'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { Clock } from '../../base/clock.ts'
import { SwarmError, isSwarmError } from '../../base/errors.ts'
import { digestOfHex } from '../digest.ts'
import type { Digest } from '../digest.ts'
import { expanded } from '../expansion.ts'
import { withdrawn } from '../shared-work.ts'
import type { UnpackOrder, UnpackReport, UnpackSummary } from './protocol.ts'

/** One layer's bytes and what they must be. */
export interface LayerSource {
  readonly digest: Digest
  readonly diffId: Digest
  /** Reads the blob as stored, maybe compressed, from its beginning. */
  readonly read: () => AsyncIterable<Uint8Array>
}

/** Entries of one layer. */
export const MAX_LAYER_ENTRIES = 500_000
/** Uncompressed bytes of one layer. */
export const MAX_LAYER_BYTES = 16 * 2 ** 30
/** Wall time of one layer; a slow board writes 5 MB/s. */
const UNPACK_TIMEOUT_MS = 60 * 60_000
/** The child's words that are kept, in characters. */
const MAX_CHILD_OUTPUT = 16_384

type Child = ChildProcessByStdio<Writable, Readable, Readable>

/** Bounds that a caller (a test, a policy) may tighten. */
export interface UnpackLimits {
  readonly maxEntries: number
  readonly maxBytes: number
}

/** The limits of production. */
export const DEFAULT_UNPACK_LIMITS: UnpackLimits = {
  maxEntries: MAX_LAYER_ENTRIES,
  maxBytes: MAX_LAYER_BYTES,
}

/**
 * Unpacks `source` into the empty `directory`.
 * @throws INVALID_ARGUMENT (malformed, hostile, wrong diff_id), RESOURCE_EXHAUSTED (bomb),
 *   STORAGE_FULL, STORAGE_CORRUPT (the stored blob has rotted), ABORTED
 */
export async function unpackLayer(
  clock: Clock,
  source: LayerSource,
  target: { readonly directory: string; readonly limits: UnpackLimits },
  signal: AbortSignal,
): Promise<UnpackSummary> {
  const child = startChild(target)
  const stop = (): void => void child.kill('SIGKILL')
  const timer = clock.after(UNPACK_TIMEOUT_MS, stop)
  signal.addEventListener('abort', stop, { once: true })
  const outcome = childOutcome(child)
  try {
    if (signal.aborted) stop()
    const isComplete = await feed(child, verified(source, target.limits.maxBytes))
    return summaryOf(await outcome, source.digest, isComplete)
  } catch (error) {
    if (signal.aborted) throw withdrawn(`layer ${source.digest}`, signal)
    throw await blame(source, error)
  } finally {
    timer.cancel()
    signal.removeEventListener('abort', stop)
    stop()
    await outcome
  }
}

/** Checks a blob's digest and diff_id without writing anything. @throws as {@link unpackLayer} */
export async function verifyLayer(source: LayerSource): Promise<void> {
  try {
    for await (const chunk of verified(source, MAX_LAYER_BYTES)) void chunk
  } catch (error) {
    throw await blame(source, error)
  }
}

/** Malformed content of a blob that is no longer what its digest says is the disk's fault. */
async function blame(source: LayerSource, error: unknown): Promise<unknown> {
  if (!isSwarmError(error, 'INVALID_ARGUMENT')) return error
  const hash = createHash('sha256')
  for await (const chunk of source.read()) hash.update(chunk)
  return digestOfHex(hash.digest('hex')) === source.digest ? error : rotten(source, error)
}

function rotten(source: LayerSource, cause?: unknown): SwarmError {
  const message = `layer ${source.digest}: content does not match its digest`
  return new SwarmError('STORAGE_CORRUPT', message, { cause })
}

/**
 * The uncompressed content.
 * @yields its bytes; after the last one both digests have been checked
 */
async function* verified(
  source: LayerSource,
  maxOutputBytes: number,
): AsyncGenerator<Uint8Array, void> {
  const subject = `layer ${source.digest}`
  const blobHash = createHash('sha256')
  const tarHash = createHash('sha256')
  const hashed = hashing(source.read(), (chunk) => blobHash.update(chunk))
  for await (const chunk of expanded(hashed, { subject, maxOutputBytes })) {
    tarHash.update(chunk)
    yield chunk
  }
  if (digestOfHex(blobHash.digest('hex')) !== source.digest) throw rotten(source)
  if (digestOfHex(tarHash.digest('hex')) !== source.diffId) {
    throw new SwarmError('INVALID_ARGUMENT', `${subject}: uncompressed content is not its diff_id`)
  }
}

async function* hashing(
  source: AsyncIterable<Uint8Array>,
  update: (chunk: Uint8Array) => void,
): AsyncGenerator<Uint8Array, void> {
  for await (const chunk of source) {
    update(chunk)
    yield chunk
  }
}

function startChild(target: { readonly directory: string; readonly limits: UnpackLimits }): Child {
  const order: UnpackOrder = {
    directory: target.directory,
    mode: unpackMode(),
    maxEntries: target.limits.maxEntries,
    maxBytes: target.limits.maxBytes,
    allowDevices: false,
  }
  const program = fileURLToPath(new URL('./child.ts', import.meta.url))
  return spawn(process.execPath, ['--no-warnings', program, JSON.stringify(order)], {
    env: {},
    cwd: '/',
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

/**
 * How this process can unpack: only root can chroot, chown and mark overlayfs' trusted attributes.
 */
export function unpackMode(): UnpackOrder['mode'] {
  return process.geteuid?.() === 0 ? 'overlay' : 'user'
}

/**
 * Writes everything to the child. Returns false when the child closed its input before the end: its
 * report says why.
 */
async function feed(child: Child, bytes: AsyncIterable<Uint8Array>): Promise<boolean> {
  let isBroken = false
  child.stdin.on('error', () => {
    isBroken = true
  })
  const isOpen = (): boolean => !isBroken && !child.stdin.destroyed
  for await (const chunk of bytes) {
    if (!isOpen()) return false
    if (!child.stdin.write(chunk)) await drained(child.stdin)
  }
  child.stdin.end()
  return isOpen()
}

function drained(stream: Writable): Promise<void> {
  if (stream.closed) return Promise.resolve()
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done)
      stream.off('close', done)
      resolve()
    }
    stream.on('drain', done)
    stream.on('close', done)
  })
}

interface ChildOutcome {
  readonly output: string
  readonly errors: string
  readonly ending: string
}

function childOutcome(child: Child): Promise<ChildOutcome> {
  const output = collect(child.stdout)
  const errors = collect(child.stderr)
  return new Promise((resolve) => {
    child.on('error', (error) =>
      resolve({ output: '', errors: error.message, ending: 'did not start' }),
    )
    child.on('close', (code, killer) =>
      resolve({ output: output(), errors: errors(), ending: killer ?? `exit code ${code ?? 0}` }),
    )
  })
}

function collect(stream: Readable): () => string {
  let text = ''
  stream.setEncoding('utf8')
  stream.on('data', (chunk: string) => {
    text = (text + chunk).slice(0, MAX_CHILD_OUTPUT)
  })
  return () => text
}

function summaryOf(outcome: ChildOutcome, digest: Digest, isComplete: boolean): UnpackSummary {
  const report = outcome.output === '' ? undefined : (JSON.parse(outcome.output) as UnpackReport)
  if (report?.type === 'failed') {
    throw new SwarmError(report.code, `layer ${digest}: ${report.message}`)
  }
  if (report !== undefined && isComplete) return report.summary
  const words = outcome.errors.trim() === '' ? '' : `: ${outcome.errors.trim()}`
  throw new SwarmError('INTERNAL', `layer ${digest}: unpacker ended (${outcome.ending})${words}`)
}
