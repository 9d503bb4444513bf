/**
 * The client that drives every peer: Docker Engine API over a unix socket, a connection for
 * each request (a kept one may be closed by the peer in the moment of its next use). One client for
 * all, so that what differs is the peer.
 */
import { Agent, request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'

/** Version of the API that all peers speak; below it dockerd asks a registry for each create. */
const API_VERSION = 'v1.41'

/** Longest wait for one answer, milliseconds. */
const ANSWER_TIMEOUT_MS = 60_000

/** Most bytes of an answer that is kept; `GET /tasks` of 50 tasks takes about 100 KiB. */
const ANSWER_BYTES_MAX = 32 * 1024 * 1024

const taskSchema = z.object({
  ID: z.string(),
  DesiredState: z.string(),
  Status: z.object({
    State: z.string(),
    Err: z.string().optional(),
    ContainerStatus: z.object({ PID: z.number().optional() }).optional(),
  }),
})

/** A task as `GET /tasks` lists it, as far as the benchmarks look. */
export type EngineTask = z.infer<typeof taskSchema>

/** A service to create. */
export interface ServiceRequest {
  readonly name: string
  readonly image: string
  readonly replicas: number
}

/** Docker's Engine API on one socket. */
export class EngineClient {
  readonly #socketPath: string
  readonly #agent = new Agent({ keepAlive: false })

  constructor(socketPath: string) {
    this.#socketPath = socketPath
  }

  /** Whether the API answers. */
  async ping(): Promise<boolean> {
    try {
      await this.#send('GET', '/_ping')
      return true
    } catch {
      // Any failure means the same while a daemon starts: not yet.
      return false
    }
  }

  /** Makes the peer a manager of its own swarm. */
  async initSwarm(listenAddress: string, advertiseAddress: string): Promise<void> {
    const body = { ListenAddr: listenAddress, AdvertiseAddr: advertiseAddress, Spec: {} }
    await this.#send('POST', '/swarm/init', JSON.stringify(body))
  }

  /** Leaves the swarm and ends its tasks. */
  async leaveSwarm(): Promise<void> {
    await this.#send('POST', '/swarm/leave?force=1')
  }

  /** Loads a docker-archive tar. @throws when the peer's stream says an error */
  async loadImage(tar: Buffer): Promise<void> {
    const answer = await this.#send('POST', '/images/load?quiet=1', tar, 'application/x-tar')
    if (answer.includes('"errorDetail"')) throw new Error(`image load: ${answer}`)
  }

  /**
   * Creates a service whose tasks sleep; a task that dies is replaced without delay. Gives its id.
   */
  async createService(service: ServiceRequest): Promise<string> {
    const body = {
      Name: service.name,
      TaskTemplate: {
        ContainerSpec: {
          Image: service.image,
          Args: ['sleep', '100000'],
          StopGracePeriod: 1_000_000,
        },
        RestartPolicy: { Condition: 'any', Delay: 0, MaxAttempts: 0 },
      },
      Mode: { Replicated: { Replicas: service.replicas } },
    }
    const answer = await this.#send('POST', '/services/create', JSON.stringify(body))
    return z.object({ ID: z.string() }).parse(JSON.parse(answer)).ID
  }

  async removeService(id: string): Promise<void> {
    await this.#send('DELETE', `/services/${id}`)
  }

  /** All tasks of a service, old ones too. */
  async tasks(serviceId: string): Promise<readonly EngineTask[]> {
    const filters = encodeURIComponent(JSON.stringify({ service: [serviceId] }))
    return z
      .array(taskSchema)
      .parse(JSON.parse(await this.#send('GET', `/tasks?filters=${filters}`)))
  }

  /** The peer's own name for its version. */
  async version(): Promise<string> {
    const answer = await this.#send('GET', '/version')
    return z.object({ Version: z.string() }).parse(JSON.parse(answer)).Version
  }

  close(): void {
    this.#agent.destroy()
  }

  #send(
    method: string,
    path: string,
    body?: string | Buffer,
    type = 'application/json',
  ): Promise<string> {
    return new Promise((resolve, reject) => {
      const prefix = path === '/_ping' ? '' : `/${API_VERSION}`
      const headers =
        body === undefined
          ? {}
          : { 'content-type': type, 'content-length': Buffer.byteLength(body) }
      const outgoing = request(
        { socketPath: this.#socketPath, agent: this.#agent, method, path: prefix + path, headers },
        (answer) => resolve(collect(answer, `${method} ${path}`)),
      )
      outgoing.setTimeout(ANSWER_TIMEOUT_MS, () =>
        outgoing.destroy(new Error(`${method} ${path}: no answer in ${ANSWER_TIMEOUT_MS} ms`)),
      )
      outgoing.once('error', (cause) => reject(new Error(`${method} ${path}: failed`, { cause })))
      outgoing.end(body)
    })
  }
}

async function collect(answer: IncomingMessage, what: string): Promise<string> {
  let text = ''
  answer.setEncoding('utf8')
  for await (const chunk of answer) {
    text += String(chunk)
    if (text.length > ANSWER_BYTES_MAX) throw new Error(`${what}: the answer is too long`)
  }
  const status = answer.statusCode ?? 0
  if (status >= 400) throw new Error(`${what}: ${status} ${text.trim()}`)
  return text
}

/** Calls `probe` every `everyMs` until it gives a value. @throws when none comes in time */
export async function poll<T>(
  what: string,
  timing: { readonly everyMs: number; readonly deadlineMs: number },
  probe: () => Promise<T | undefined>,
): Promise<T> {
  const endMs = performance.now() + timing.deadlineMs
  for (;;) {
    const value = await probe()
    if (value !== undefined) return value
    if (performance.now() > endMs) throw new Error(`${what}: not within ${timing.deadlineMs} ms`)
    await sleep(timing.everyMs)
  }
}
