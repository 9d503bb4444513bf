/** One server process of the crash test, and the client's connection to it. */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { lineParser, toLine } from './protocol.ts'
import type { Answer, Numbered, Peer, Request, ServerSettings } from './protocol.ts'

/** Below the ports that the kernel gives to outgoing connections. */
export const PEER_PORT = 7100
export const CLIENT_PORT = 7200

const SERVER = join(import.meta.dirname, 'server.ts')
/** Bytes of a member's output that a failure shows. */
const OUTPUT_SHOWN = 4000

/** Time for one answer to a question of the test's own. */
const ANSWER_MS_MAX = 2000

/** Nobody answered: the outcome is unknown. */
export interface Lost {
  readonly type: 'lost'
}

/** What a member keeps over all its starts. */
export type MemberSettings = Omit<ServerSettings, 'bootstrap' | 'peers'>

/** A process and a connection. */
export class Member {
  readonly #settings: MemberSettings
  /** Who is there at a start. */
  readonly #peers: () => readonly Peer[]
  #child: ChildProcess | undefined
  #socket: Socket | undefined
  #isBootstrapped: boolean
  #next = 0
  readonly #waiting = new Map<number, (answer: Answer | Lost) => void>()
  /** Set when the process ended without being killed. */
  died: string | undefined
  /** Whether the process is stopped by SIGSTOP. */
  isFrozen = false

  /** A first member bootstraps; another one waits to be added. */
  constructor(
    settings: MemberSettings,
    parts: { readonly isFirst: boolean; readonly peers: () => readonly Peer[] },
  ) {
    this.#settings = settings
    this.#isBootstrapped = !parts.isFirst
    this.#peers = parts.peers
  }

  get self(): Peer {
    return this.#settings.self
  }

  /** Number of its ports. */
  get place(): number {
    return this.#settings.clientPort - CLIENT_PORT
  }

  get name(): string {
    return this.self.name
  }

  get isRunning(): boolean {
    return this.#child !== undefined
  }

  /** Starts the process; does not wait for it. */
  start(): void {
    if (this.#child !== undefined) return
    const { directory } = this.#settings
    mkdirSync(directory, { recursive: true })
    const output = openSync(this.#outputPath, 'a')
    const settings: ServerSettings = {
      ...this.#settings,
      peers: this.#peers(),
      bootstrap: !this.#isBootstrapped,
    }
    const child = spawn(process.execPath, [SERVER, JSON.stringify(settings)], {
      stdio: ['pipe', output, output],
    })
    closeSync(output)
    this.#child = child
    this.isFrozen = false
    child.once('exit', (code, signal) => {
      if (signal === 'SIGKILL') return
      const text = this.output().slice(-OUTPUT_SHOWN)
      this.died = `${this.name} ended by itself (${code ?? signal}):\n${text}`
    })
  }

  /** Waits until it has been up once: from then on it has state. */
  async untilBootstrapped(): Promise<void> {
    while ((await this.request({ type: 'status' })).type !== 'status') {
      if (this.died !== undefined) throw new Error(this.died)
      await sleep(20)
    }
    this.#isBootstrapped = true
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<void> {
    const child = this.#child
    this.#child = undefined
    if (child === undefined) return
    const isOver = child.exitCode !== null || child.signalCode !== null
    const ended = new Promise((done) => child.once('exit', done))
    child.kill('SIGKILL')
    if (!isOver) await ended
    this.#disconnect()
  }

  freeze(): void {
    this.isFrozen = this.#child?.kill('SIGSTOP') ?? false
  }

  thaw(): void {
    this.#child?.kill('SIGCONT')
    this.isFrozen = false
  }

  /** Asks; an answer may come late, but the promise always ends when the connection does. */
  request(request: Request): Promise<Answer | Lost> {
    if (this.#child === undefined) return Promise.resolve({ type: 'lost' })
    this.#socket ??= this.#connect()
    const socket = this.#socket
    this.#next += 1
    const id = this.#next
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve)
      socket.write(toLine({ id, ...request }))
    })
  }

  /** What the process and its predecessors have said. */
  output(): string {
    return readFileSync(this.#outputPath, 'utf8')
  }

  get #outputPath(): string {
    return join(this.#settings.directory, 'output.log')
  }

  #connect(): Socket {
    const { host, clientPort } = this.#settings
    const socket = connect({ host, port: clientPort, noDelay: true })
    const onAnswer = ({ id, ...answer }: Numbered<Answer>): void => {
      this.#waiting.get(id)?.(answer)
      this.#waiting.delete(id)
    }
    socket.on('data', lineParser(onAnswer))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      if (this.#socket === socket) this.#disconnect()
    })
    return socket
  }

  #disconnect(): void {
    this.#socket?.destroy()
    this.#socket = undefined
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const resolve of waiting) resolve({ type: 'lost' })
  }
}

/** A question of the test's own; `undefined` when there is no answer in time. */
export async function ask(
  member: Member | undefined,
  request: Request,
): Promise<Answer | Lost | undefined> {
  const unanswered = sleep(ANSWER_MS_MAX).then(() => undefined)
  return await Promise.race([member?.request(request), unanswered])
}
