/**
 * How one node reaches a task of another: both ends of the byte stream that the mesh opens for
 * `DIAL_METHOD`. The far end checks against its own replica that the task runs here and publishes
 * that port (the mesh proves only that the caller is a member), connects, and answers with one byte
 * before any data, so that the near end can tell a task that refuses from one that is silent, and
 * try another.
 *
 * Independent of the mesh's types: `node.ts` hands in how a stream is opened.
 */
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, errorText } from '../base/errors.ts'
import type { Task } from '../store/objects.ts'
import type { Commit, StoreView } from '../store/view.ts'
import type { Backend, DialOptions, RemoteConnection, RemoteDialer } from './ports.ts'
import { abortReason } from './userspace/abort-reason.ts'
import { relayDatagrams } from './userspace/datagram-link.ts'
import { dialLocal } from './userspace/dial.ts'
import type { SocketAddress } from './userspace/dial.ts'
import { relay } from './userspace/relay.ts'
import { streamOfConnection } from './userspace/remote-stream.ts'
import { taskAddress } from './wanted-servers.ts'

/** Name of the mesh's stream. */
export const DIAL_METHOD = 'network.dial'

/** The stream's header. `port` as in {@link Backend}. */
export interface DialRequest {
  readonly taskId: string
  readonly port: number
  readonly protocol: 'tcp' | 'udp'
}

/** First byte from the far end. */
const CONNECTED = 0
const REFUSED = 1

/** Milliseconds for the local task to answer; below the near end's own patience. */
const DIAL_TIMEOUT_MS = 2_500

/** Milliseconds that the near end may take to read the rest of an answer whose task has ended. */
const FLUSH_MS = 10_000

/** Datagrams held for a task or for the stream back; more are dropped, as UDP may. */
const DATAGRAMS_PENDING_MAX = 16

/** Most bytes of a refusal's text; the rest is cut. */
const REFUSAL_BYTES_MAX = 1_024

/** Opens the mesh's stream of `DIAL_METHOD` to a node. */
export type OpenDialStream = (
  nodeId: string,
  request: DialRequest,
  options: { readonly signal: AbortSignal },
) => Promise<RemoteConnection>

/** The near end: a {@link RemoteDialer} over streams of the mesh. */
export class StreamDialer implements RemoteDialer {
  readonly #open: OpenDialStream

  constructor(open: OpenDialStream) {
    this.#open = open
  }

  /** @throws UNAVAILABLE when the far node refuses, and what opening the stream throws */
  async dial(backend: Backend, options: DialOptions): Promise<RemoteConnection> {
    const { signal, protocol = 'tcp' } = options
    const request = { taskId: backend.taskId, port: backend.port, protocol }
    const stream = await this.#open(backend.nodeId, request, { signal })
    const onAbort = (): void => stream.abort(abortReason(signal))
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return { ...forwarding(stream), source: await answered(stream, backend) }
    } catch (error) {
      stream.abort(new Error('dial: not connected', { cause: error }))
      throw signal.aborted ? abortReason(signal) : error
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }
}

interface DialTarget extends SocketAddress, Pick<DialRequest, 'taskId' | 'protocol'> {}

/** The far end: connects streams of the mesh to this node's tasks. */
export class DialServer {
  readonly #components: { readonly store: StoreView; readonly clock: Clock }
  readonly #options: { readonly nodeId: string }
  /** What uses a task now, by its id. */
  readonly #users = new Map<string, Set<AbortController>>()
  /** TCP connections under way; they never reject. */
  readonly #connections = new Set<Promise<void>>()
  readonly #unsubscribe: () => void
  #draining = false

  constructor(
    components: { readonly store: StoreView; readonly clock: Clock },
    options: { readonly nodeId: string },
  ) {
    this.#components = components
    this.#options = options
    this.#unsubscribe = components.store.onCommit((commit) => this.#onCommit(commit))
  }

  /** Serves one stream until it is closed; a refusal is told to the caller, not thrown. */
  async serve(header: unknown, stream: RemoteConnection): Promise<void> {
    const target = this.#target(header)
    if ('refusal' in target) {
      await refuse(stream, target.refusal)
      return
    }
    const user = new AbortController()
    const users = this.#users.get(target.taskId) ?? new Set()
    this.#users.set(target.taskId, users.add(user))
    try {
      if (target.protocol === 'udp') await connectDatagrams(target, stream, user.signal)
      else await this.#counted(this.#connect(target, stream, user.signal))
    } finally {
      users.delete(user)
      if (users.size === 0) this.#users.delete(target.taskId)
    }
  }

  /**
   * Refuses new connections, so that callers try another replica; drops those that are under way
   * when they have not ended by themselves after `limitMs`. Datagrams have no end to wait for.
   */
  async drain(limitMs: number): Promise<void> {
    this.#draining = true
    const ended = new AbortController()
    const limit = delay(this.#components.clock, limitMs, ended.signal).catch((error: unknown) => {
      if (!ended.signal.aborted) throw error
    })
    await Promise.race([Promise.allSettled(this.#connections), limit])
    ended.abort()
    this.close()
  }

  async #counted(connection: Promise<void>): Promise<void> {
    this.#connections.add(connection)
    try {
      await connection
    } finally {
      this.#connections.delete(connection)
    }
  }

  /** Drops every connection and follows the store no more. */
  close(): void {
    this.#unsubscribe()
    for (const taskId of this.#users.keys()) this.#drop(taskId, 'this node stops')
  }

  /** Keeps no connection to the dead: a task's addresses may be another's soon. */
  #onCommit(commit: Commit): void {
    if (this.#users.size === 0) return
    for (const taskId of this.#users.keys()) {
      if (commit.type === 'changes' && !commit.changes.some((change) => change.id === taskId))
        continue
      const task = this.#components.store.get('tasks', taskId)
      if (task?.status.state !== 'running') this.#drop(taskId, 'has ended')
    }
  }

  #drop(taskId: string, why: string): void {
    const reason = new SwarmError('ABORTED', `task ${taskId}: ${why}`)
    for (const user of this.#users.get(taskId) ?? []) user.abort(reason)
  }

  async #connect(
    target: SocketAddress,
    stream: RemoteConnection,
    signal: AbortSignal,
  ): Promise<void> {
    const { clock } = this.#components
    let socket
    try {
      socket = await dialLocal(target, { clock, signal, timeoutMs: DIAL_TIMEOUT_MS })
      await stream.write(Uint8Array.of(CONNECTED))
    } catch (error) {
      socket?.destroy()
      await refuse(stream, errorText(error))
      return
    }
    await relay(streamOfConnection(stream), socket, { clock, signal, flushMs: FLUSH_MS })
  }

  /** Where the request leads, or why it may not. */
  #target(header: unknown): DialTarget | { readonly refusal: string } {
    if (this.#draining) return { refusal: 'this node stops' }
    const request = decodeDialRequest(header)
    if (request === undefined) return { refusal: 'dial request: is malformed' }
    const task = this.#components.store.get('tasks', request.taskId)
    const subject = `task ${request.taskId}`
    if (task === undefined || task.nodeId !== this.#options.nodeId) {
      return { refusal: `${subject}: is not on this node` }
    }
    if (task.status.state !== 'running' || task.desiredState !== 'running') {
      return { refusal: `${subject}: does not run` }
    }
    const target = publishedAddresses(task, request.protocol).find(
      (where) => where.port === request.port,
    )
    return target === undefined
      ? { refusal: `${subject}: does not publish port ${request.port}` }
      : { ...request, ...target }
  }
}

/** A dial request as it came over the wire; undefined when it is none. */
export function decodeDialRequest(header: unknown): DialRequest | undefined {
  if (typeof header !== 'object' || header === null) return undefined
  if (!('taskId' in header) || !('port' in header)) return undefined
  const { taskId, port } = header
  if (typeof taskId !== 'string' || typeof port !== 'number') return undefined
  const protocol = 'protocol' in header ? header.protocol : 'tcp'
  return protocol === 'tcp' || protocol === 'udp' ? { taskId, port, protocol } : undefined
}

/** Where the task's published ports of a protocol answer on this node. */
function publishedAddresses(task: Task, protocol: 'tcp' | 'udp'): SocketAddress[] {
  return task.ports.flatMap((port) => {
    const where = port.protocol === protocol ? taskAddress(task, port.targetPort) : undefined
    return where === undefined ? [] : [where]
  })
}

async function connectDatagrams(
  target: SocketAddress,
  stream: RemoteConnection,
  signal: AbortSignal,
): Promise<void> {
  try {
    await stream.write(Uint8Array.of(CONNECTED))
  } catch (error) {
    stream.abort(new Error('dial: not answered', { cause: error }))
    return
  }
  await relayDatagrams(stream, target, { signal, pendingMax: DATAGRAMS_PENDING_MAX })
}

async function refuse(stream: RemoteConnection, text: string): Promise<void> {
  const message = new TextEncoder().encode(text).subarray(0, REFUSAL_BYTES_MAX)
  try {
    await stream.write(Uint8Array.of(REFUSED, ...message))
    await stream.end()
  } catch (error) {
    stream.abort(new Error(text, { cause: error }))
  }
}

/** Waits for the far end's first byte; gives what follows it. @throws UNAVAILABLE on a refusal */
async function answered(
  stream: RemoteConnection,
  backend: Backend,
): Promise<AsyncIterable<Uint8Array>> {
  const chunks = stream.source[Symbol.asyncIterator]()
  let first = new Uint8Array()
  while (first.length === 0) {
    const next = await chunks.next()
    if (next.done === true) throw unavailable(backend, 'the stream ended')
    first = Uint8Array.from(next.value)
  }
  if (first[0] === CONNECTED) return continued(first.subarray(1), chunks)
  const rest: Uint8Array[] = [first.subarray(1)]
  let size = first.length
  while (size < REFUSAL_BYTES_MAX) {
    const next = await chunks.next()
    if (next.done === true) break
    rest.push(next.value)
    size += next.value.length
  }
  throw unavailable(backend, Buffer.concat(rest).subarray(0, REFUSAL_BYTES_MAX).toString())
}

function unavailable(backend: Backend, text: string): SwarmError {
  return new SwarmError('UNAVAILABLE', `node ${backend.nodeId}: ${text}`)
}

async function* continued(
  first: Uint8Array,
  chunks: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (first.length > 0) yield first
  for (;;) {
    const next = await chunks.next()
    if (next.done === true) return
    yield next.value
  }
}

function forwarding(stream: RemoteConnection): Omit<RemoteConnection, 'source'> {
  return {
    write: (chunk) => stream.write(chunk),
    end: () => stream.end(),
    abort: (reason) => stream.abort(reason),
  }
}
