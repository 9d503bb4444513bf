/**
 * A netlink socket: requests go out in order, one exchange at a time (overlapping ones would steal
 * each other's answers), off the main thread.
 *
 * - `request` sends one message and gives the kernel's answers.
 * - `dump` reads a table; when it changed meanwhile, it reads again (`NLM_F_DUMP_INTR`).
 * - `batch` sends many messages in few system calls, one acknowledgement a chunk. Each message
 *   stands for itself: failures are given by index, the others are executed.
 * - `transaction` sends nfnetlink messages between BEGIN and END: all or none.
 *
 * Requests and answers are made and read by pure modules beside this one: `generic.ts` (families),
 * `ipvs.ts` and `ipvs-reply.ts`, `link.ts` and `link-reply.ts`, `route.ts` (addresses, routes),
 * `rule.ts`, `neighbour.ts` (and forwarding entries), `nftables.ts`, `nft-element.ts` and
 * `nft-field.ts`, `conntrack.ts`, `sock-diag.ts` (who listens). Events come through `monitor.ts`,
 * settings through `sysctl.ts`.
 * The addon is loaded once, by `loadNative()` in `native.ts`, and handed down.
 *
 *     await using socket = await NetlinkSocket.open(native, { protocol: 'route', netns })
 *     await socket.request(newLink({ name: 'br0' }, { kind: 'bridge' }))
 *     const links = (await socket.dump(dumpLinks())).map(decodeLink)
 *     const failures = await socket.batch(peers.map(setForwardingEntry))
 *
 * `ENOBUFS` and `TIMED_OUT` mean that the outcome is unknown: dump and compare. A request whose
 * signal aborts after it was sent has been executed too.
 */
import { at } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import { MessageWriter } from './message-writer.ts'
import type { NetlinkRequest } from './message-writer.ts'
import {
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_MIN_TYPE,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  eachMessage,
  readOutcome,
} from './message.ts'
import type { NetlinkMessage, Outcome } from './message.ts'
import type { Native, NativeSocket } from './native.ts'
import { NetlinkError, errnoName, fromNative } from './netlink-error.ts'
import { beginBatch, endBatch } from './nfnetlink.ts'
import { StepSlices } from '../time-slices.ts'

/** The kernel's numbers of the protocols that Skein speaks. */
export const PROTOCOLS = { route: 0, diag: 4, netfilter: 12, generic: 16 } as const

/** A netlink protocol by name. */
export type Protocol = keyof typeof PROTOCOLS

/** Answers come at once; this is for a machine that is stuck. */
export const EXCHANGE_TIMEOUT_MS = 10_000
/** Room for answers: a dump of 100,000 entries is read while it is made, batches answer little. */
export const RECEIVE_BYTES = 8 << 20
/** Room for the largest request; the kernel refuses what does not fit with EMSGSIZE. */
export const SEND_BYTES = 8 << 20
/** Messages a chunk: encoding takes 2 ms or less, and the gain of larger ones is below 10 %. */
export const CHUNK_MESSAGES = 256
/** Dumps of a table that changes all the time: give up after so many. */
export const DUMP_ATTEMPTS_MAX = 8
/** Exchanges that wait for their turn; more are refused with RESOURCE_EXHAUSTED. */
export const QUEUED_EXCHANGES_MAX = 4096
/** Messages that are written or read without a pause, or kilobytes written: about a millisecond. */
const STEPS_AT_A_STRETCH = 64
const BYTES_PER_STEP = 1024
const SEQUENCE_MAX = 0x7fff_ffff

/** What to open. */
export interface SocketOptions {
  readonly protocol: Protocol
  /** Path of the network namespace; without one this process's. */
  readonly netns?: string
  /** Default {@link EXCHANGE_TIMEOUT_MS}. */
  readonly timeoutMs?: number
}

/** Options of one call. */
export interface CallOptions {
  readonly signal?: AbortSignal
}

/** Options of a transaction. */
export interface TransactionOptions extends CallOptions {
  /** Refuse with ERESTART when this is not the ruleset's generation: somebody changed it. */
  readonly generation?: number
}

/** A message of a batch that the kernel refused. */
export interface BatchFailure {
  /** Index in the batch. */
  readonly index: number
  readonly error: NetlinkError
}

/** The answers to one exchange. */
interface Answers {
  readonly messages: readonly NetlinkMessage[]
  /** Refused messages by sequence number. */
  readonly refused: ReadonlyMap<number, Outcome>
  readonly isInterrupted: boolean
}

/** The numbers of an exchange, and what to call it in errors. */
interface Exchange {
  readonly operation: string
  readonly first: number
  readonly last: number
  /** An error of this message ends the exchange too; 0 = none. */
  readonly head: number
}

/** An open netlink socket. Close it, or use `await using`. */
export class NetlinkSocket implements AsyncDisposable {
  readonly #native: Native
  readonly #socket: NativeSocket
  readonly #timeoutMs: number
  readonly #writer = new MessageWriter()
  readonly #slices = new StepSlices(STEPS_AT_A_STRETCH)
  /** Sequence number of the last message; never 0. */
  #sequence = 0
  /** Settles when the exchange before the next one has ended. Never rejects. */
  #turn: Promise<unknown> = Promise.resolve()
  /** Exchanges that run or wait. */
  #queued = 0
  #isClosed = false

  private constructor(native: Native, socket: NativeSocket, timeoutMs: number) {
    this.#native = native
    this.#socket = socket
    this.#timeoutMs = timeoutMs
  }

  /** Opens a socket in a namespace. @throws NetlinkError */
  static async open(native: Native, options: SocketOptions): Promise<NetlinkSocket> {
    const netns = options.netns ?? null
    const protocol = PROTOCOLS[options.protocol]
    try {
      const socket = await native.open(protocol, netns, RECEIVE_BYTES, SEND_BYTES)
      return new NetlinkSocket(native, socket, options.timeoutMs ?? EXCHANGE_TIMEOUT_MS)
    } catch (error) {
      throw fromNative(error, `open ${options.protocol} netlink in ${netns ?? 'own namespace'}`)
    }
  }

  /** Sends one message; the kernel's answers without the acknowledgement. @throws NetlinkError */
  request(request: NetlinkRequest, options: CallOptions = {}): Promise<readonly NetlinkMessage[]> {
    return this.#inTurn(options, async () => {
      const exchange = this.#single(request, NLM_F_ACK)
      const answers = await this.#exchange(exchange)
      throwRefusal(answers, exchange)
      return answers.messages
    })
  }

  /** Reads a table. @throws NetlinkError EINTR when it kept changing */
  async dump(
    request: NetlinkRequest,
    options: CallOptions = {},
  ): Promise<readonly NetlinkMessage[]> {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS_MAX; attempt += 1) {
      const answers = await this.#inTurn(options, async () => {
        const exchange = this.#single(request, NLM_F_DUMP)
        const read = await this.#exchange(exchange)
        throwRefusal(read, exchange)
        return read
      })
      if (!answers.isInterrupted) return answers.messages
    }
    throw new NetlinkError('EINTR', request.operation, 'the table changes faster than it is read')
  }

  /**
   * Sends many messages, in order, {@link CHUNK_MESSAGES} at a time; other calls may come between
   * the chunks. The refused ones, in order. @throws NetlinkError ENOBUFS and others: the outcome is
   * unknown
   */
  async batch(
    requests: readonly NetlinkRequest[],
    options: CallOptions = {},
  ): Promise<readonly BatchFailure[]> {
    const failures: BatchFailure[] = []
    for (let start = 0; start < requests.length; start += CHUNK_MESSAGES) {
      const chunk = requests.slice(start, start + CHUNK_MESSAGES)
      const refused = await this.#inTurn(options, () => this.#chunk(chunk))
      for (const { index, error } of refused) failures.push({ index: start + index, error })
    }
    return failures
  }

  /**
   * Sends nfnetlink messages of one subsystem as one transaction: on any failure nothing is done.
   * @throws NetlinkError of the first message that was refused
   */
  transaction(
    subsystem: number,
    requests: readonly NetlinkRequest[],
    options: TransactionOptions = {},
  ): Promise<void> {
    if (requests.length === 0) return Promise.resolve()
    return this.#inTurn(options, async () => {
      const head = this.#take(requests.length + 2)
      const last = head + requests.length
      this.#writer.clear()
      this.#writer.message(beginBatch(subsystem, options.generation), head)
      for (const [index, request] of requests.entries()) {
        const sequence = head + 1 + index
        const pause = this.#write(request, sequence, sequence === last ? NLM_F_ACK : 0)
        if (pause !== undefined) await pause
      }
      this.#writer.message(endBatch(subsystem), last + 1)
      const { operation } = at(requests, 0)
      const answers = await this.#exchange({ operation, first: head, last, head })
      const [first] = [...answers.refused].toSorted(([a], [b]) => a - b)
      if (first === undefined) return
      const request = requests[first[0] - head - 1]
      throw refusal(request?.operation ?? `commit: ${operation}`, first[1])
    })
  }

  /** Ends the running exchange and those that wait with SHUTTING_DOWN. Again does nothing. */
  close(): void {
    this.#isClosed = true
    this.#native.close(this.#socket)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
    await this.#turn
  }

  async #chunk(chunk: readonly NetlinkRequest[]): Promise<BatchFailure[]> {
    const first = this.#take(chunk.length)
    const last = first + chunk.length - 1
    this.#writer.clear()
    for (const [index, request] of chunk.entries()) {
      const sequence = first + index
      const pause = this.#write(request, sequence, sequence === last ? NLM_F_ACK : 0)
      if (pause !== undefined) await pause
    }
    const { operation } = at(chunk, 0)
    const answers = await this.#exchange({ operation, first, last, head: 0 })
    return [...answers.refused]
      .toSorted(([a], [b]) => a - b)
      .map(([sequence, outcome]) => {
        const index = sequence - first
        return { index, error: refusal(at(chunk, index).operation, outcome) }
      })
  }

  /**
   * Writes one of many messages; gives what to wait for when it is the loop's turn. Most often it
   * is not, and a promise for each message would be an eighth of all garbage.
   */
  #write(request: NetlinkRequest, sequence: number, flags: number): Promise<void> | undefined {
    const before = this.#writer.length
    this.#writer.message(request, sequence, flags)
    return this.#slices.maybeYield(Math.ceil((this.#writer.length - before) / BYTES_PER_STEP))
  }

  /** Writes one message. */
  #single(request: NetlinkRequest, flags: number): Exchange {
    const sequence = this.#take(1)
    this.#writer.clear()
    this.#writer.message(request, sequence, flags)
    return { operation: request.operation, first: sequence, last: sequence, head: 0 }
  }

  /** The first of `count` sequence numbers in a row. */
  #take(count: number): number {
    if (this.#sequence + count > SEQUENCE_MAX) this.#sequence = 0
    const first = this.#sequence + 1
    this.#sequence += count
    return first
  }

  /** Sends what the writer holds. The addon copies it before it returns. */
  async #exchange(exchange: Exchange): Promise<Answers> {
    const { last, head } = exchange
    try {
      const reply = await this.#native.exchange(
        this.#socket,
        this.#writer.bytes,
        last,
        head,
        this.#timeoutMs,
      )
      return await readAnswers(reply, exchange, this.#slices)
    } catch (error) {
      throw fromNative(error, exchange.operation)
    }
  }

  /** Runs `task` when those before it have ended. */
  #inTurn<T>(options: CallOptions, task: () => Promise<T>): Promise<T> {
    if (this.#queued >= QUEUED_EXCHANGES_MAX) {
      const message = `netlink socket: ${QUEUED_EXCHANGES_MAX} exchanges wait`
      return Promise.reject(new SwarmError('RESOURCE_EXHAUSTED', message))
    }
    this.#queued += 1
    const result = this.#turn.then(() => {
      if (this.#isClosed) throw new SwarmError('SHUTTING_DOWN', 'netlink socket: is closed')
      if (options.signal?.aborted === true) throw aborted(options.signal)
      return task()
    })
    this.#turn = result.then(
      () => (this.#queued -= 1),
      () => (this.#queued -= 1),
    )
    return options.signal === undefined ? result : abortable(result, options.signal)
  }
}

/** Sorts a reply; messages of other exchanges, left over from one that timed out, are not ours. */
async function readAnswers(
  reply: Uint8Array,
  exchange: Exchange,
  slices: StepSlices,
): Promise<Answers> {
  const messages: NetlinkMessage[] = []
  const refused = new Map<number, Outcome>()
  let isInterrupted = false
  for (const message of eachMessage(reply)) {
    await slices.maybeYield()
    if (message.sequence < exchange.first || message.sequence > exchange.last) continue
    if ((message.flags & NLM_F_DUMP_INTR) !== 0 && message.type !== NLMSG_ERROR)
      isInterrupted = true
    if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
      const outcome = readOutcome(message)
      if (outcome.errno !== 0) refused.set(message.sequence, outcome)
    } else if (message.type >= NLMSG_MIN_TYPE) {
      messages.push(message)
    }
  }
  return { messages, refused, isInterrupted }
}

function refusal(operation: string, outcome: Outcome): NetlinkError {
  return new NetlinkError(errnoName(outcome.errno), operation, outcome.detail)
}

function throwRefusal(answers: Answers, exchange: Exchange): void {
  const outcome = answers.refused.get(exchange.last)
  if (outcome !== undefined) throw refusal(exchange.operation, outcome)
}

function aborted(signal: AbortSignal): SwarmError {
  return new SwarmError('ABORTED', 'netlink: the caller withdrew', { cause: signal.reason })
}

/** `result`, or ABORTED as soon as the signal says so. */
function abortable<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(aborted(signal))
    signal.addEventListener('abort', onAbort, { once: true })
    result.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
