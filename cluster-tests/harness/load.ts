/** Clients that never stop asking, each time by a connection of its own, and what they went through. */
import { get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/** How a client asks. */
export interface LoadOptions {
  /** Default 4. */
  readonly clients?: number
  /** A request that takes longer has failed; default 10 s. */
  readonly limitMs?: number
  /** What a client waits between two requests; default nothing. */
  readonly pauseMs?: number
}

/** One request and how it went. Times are milliseconds since 1970 on {@link nowMs}. */
export interface LoadRequest {
  readonly beganMs: number
  readonly lastedMs: number
  /** When its connection was there, after `beganMs`; undefined: never. */
  readonly connectedAfterMs: number | undefined
  /** The client's own port: names the connection in a kernel's tables. */
  readonly port: number | undefined
  /** Undefined: it was answered. */
  readonly error: string | undefined
  readonly answer: string
}

/** One of the different answers. */
export interface LoadAnswer {
  readonly answer: string
  readonly count: number
  /** When the first and the last request with this answer ended. */
  readonly firstMs: number
  readonly lastMs: number
}

/** What the clients saw. */
export interface LoadReport {
  readonly requests: number
  /** In order of their end. */
  readonly failures: readonly LoadRequest[]
  /** The one that took longest of those that were answered. */
  readonly slowest: LoadRequest | undefined
  readonly answers: readonly LoadAnswer[]
}

const CLIENTS = 4
const LIMIT_MS = 10_000

/** Wall time as fine as the monotonic clock; processes of one machine agree. */
export function nowMs(): number {
  return performance.timeOrigin + performance.now()
}

/** A failed request in words; `sinceMs` is what its beginning is counted from. */
export function failureText(request: LoadRequest, sinceMs?: number): string {
  const { beganMs, lastedMs, connectedAfterMs, port, error = '' } = request
  const began =
    sinceMs === undefined
      ? new Date(beganMs).toISOString()
      : `begun after ${Math.round(beganMs - sinceMs)} ms`
  const connected =
    connectedAfterMs === undefined
      ? 'never connected'
      : `connected after ${Math.round(connectedAfterMs)} ms`
  return `${began}, lasted ${Math.round(lastedMs)} ms, ${connected}, from port ${port}: ${error}`
}

/** Runs `clients` loops of requests from construction until `stop`. */
export class Load {
  readonly #loops: readonly Promise<void>[]
  readonly #options: LoadOptions
  readonly #failures: LoadRequest[] = []
  readonly #answers = new Map<string, { count: number; firstMs: number; lastMs: number }>()
  #slowest: LoadRequest | undefined
  #requests = 0
  #stopped = false

  constructor(host: string, port: number, options: LoadOptions = {}) {
    this.#options = options
    const { clients = CLIENTS } = options
    this.#loops = Array.from({ length: clients }, () => this.#run(host, port))
  }

  get requests(): number {
    return this.#requests
  }

  async stop(): Promise<LoadReport> {
    this.#stopped = true
    await Promise.all(this.#loops)
    return {
      requests: this.#requests,
      failures: this.#failures,
      slowest: this.#slowest,
      answers: [...this.#answers].map(([answer, seen]) => ({ answer, ...seen })),
    }
  }

  async #run(host: string, port: number): Promise<void> {
    const { limitMs = LIMIT_MS, pauseMs = 0 } = this.#options
    while (!this.#stopped) {
      this.#take(await requestOnce({ host, port, limitMs }))
      if (pauseMs > 0) await sleep(pauseMs)
    }
  }

  #take(request: LoadRequest): void {
    this.#requests += 1
    if (request.error !== undefined) {
      this.#failures.push(request)
      return
    }
    if (request.lastedMs > (this.#slowest?.lastedMs ?? 0)) this.#slowest = request
    const endedMs = request.beganMs + request.lastedMs
    const seen = this.#answers.get(request.answer) ?? { count: 0, firstMs: endedMs, lastMs: 0 }
    this.#answers.set(request.answer, { ...seen, count: seen.count + 1, lastMs: endedMs })
  }
}

/** One GET. Never rejects. */
function requestOnce(target: {
  readonly host: string
  readonly port: number
  readonly limitMs: number
}): Promise<LoadRequest> {
  const { host, port, limitMs } = target
  const beganMs = nowMs()
  let connectedAfterMs: number | undefined
  let clientPort: number | undefined
  return new Promise((done) => {
    const end = (error: string | undefined, answer: string): void => {
      const lastedMs = nowMs() - beganMs
      done({ beganMs, lastedMs, connectedAfterMs, port: clientPort, error, answer })
    }
    const signal = AbortSignal.timeout(limitMs)
    const call = get({ host, port, agent: false, signal }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (body += chunk))
      response.on('end', () => end(undefined, body.trim()))
      response.on('error', (error) => end(String(error), ''))
    })
    call.on('socket', (socket) => {
      // The kernel has given it by then, before it is answered.
      queueMicrotask(() => (clientPort = socket.localPort))
      socket.once('connect', () => {
        connectedAfterMs = nowMs() - beganMs
        clientPort = socket.localPort
      })
    })
    call.on('error', (error) => end(signal.aborted ? 'no answer in time' : String(error), ''))
  })
}
