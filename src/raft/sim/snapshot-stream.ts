/**
 * One snapshot on its way: a reliable stream that arrives chunk by chunk, or breaks, which each end
 * notices in its own time. What happens at an end happens in events of its process.
 */
import { SwarmError } from '../../base/errors.ts'
import { decodeMessages, encodeMessages } from '../runtime/codec.ts'
import type { SnapshotTransfer } from '../runtime/ports.ts'
import type { EventLoop } from './event-loop.ts'
import type { Host } from './event.ts'
import type { Station } from './station.ts'

/** The way between the two ends. */
export interface StreamPath {
  readonly from: Station
  /** `undefined` when nobody is there. */
  readonly to: Station | undefined
  readonly isBlocked: () => boolean
  /** Whether the stream breaks now. */
  readonly breaks: () => boolean
  /** Whether it comes again, as after a sender that gave up too early. */
  readonly repeats: () => boolean
  readonly delayMs: () => number
  readonly timeoutMs: number
  /** How much later still it may come again. */
  readonly stragglesMs: number
}

interface Content {
  readonly transfer: SnapshotTransfer
  readonly signal: AbortSignal
}

/** Resolves at the sender when the receiver has stored it. */
export async function streamSnapshot(
  loop: EventLoop,
  { transfer, signal }: Content,
  path: StreamPath,
): Promise<void> {
  const { from, to } = path
  const ended = Promise.withResolvers<void>()
  let open = true
  const isBegun = to !== undefined && !path.isBlocked()
  const end = (run: () => void): void => {
    loop.after(path.delayMs(), 'network', { host: from.host, run })
  }
  const look = (): void => {
    if (!open) return
    if (!isBegun || !to.host.alive || path.isBlocked()) ended.reject(broken())
    else loop.after(path.timeoutMs, 'network', { host: from.host, run: look })
  }
  loop.after(path.timeoutMs, 'network', { host: from.host, run: look })
  if (isBegun) {
    const arrive = (): void => {
      const [message = transfer.message] = decodeMessages(encodeMessages([transfer.message]))
      const read = (offset: number): AsyncIterable<Uint8Array> =>
        arriving(loop, { source: transfer.read(offset), signal }, { ...path, to })
      to.handler.onSnapshot(from.id, { ...transfer, message, read }).then(
        () => end(ended.resolve),
        (error: unknown) => end(() => ended.reject(error)),
      )
    }
    loop.after(path.delayMs(), 'network', { host: to.host, run: arrive })
    if (path.repeats()) {
      const againMs = path.timeoutMs + path.stragglesMs
      loop.after(againMs, 'network', { host: to.host, run: arrive })
    }
  }
  try {
    await ended.promise
  } finally {
    open = false
  }
}

async function* arriving(
  loop: EventLoop,
  { source, signal }: { readonly source: AsyncIterable<Uint8Array>; readonly signal: AbortSignal },
  path: StreamPath & { readonly to: Station },
): AsyncGenerator<Uint8Array> {
  const { from, to } = path
  for await (const chunk of source) {
    await rest(loop, to.host, path.delayMs())
    if (signal.aborted || !from.host.alive || path.isBlocked() || path.breaks()) {
      await rest(loop, to.host, path.timeoutMs)
      throw broken()
    }
    yield new Uint8Array(chunk)
  }
}

function rest(loop: EventLoop, host: Host, delayMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  loop.after(delayMs, 'network', { host, run: resolve })
  return promise
}

function broken(): SwarmError {
  return new SwarmError('UNAVAILABLE', 'snapshot: the simulated stream broke')
}
