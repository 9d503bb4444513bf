/** The load generator's side of the benchmark's protocol; one connection. */
import { connect, type Socket } from 'node:net'
import type { Answer, Client } from './client.ts'
import { OPERATION, OUTCOME, frame, frameParser, putCommand } from './kv-protocol.ts'

/** A connection to one raft-ts server. */
export class KvClient implements Client {
  readonly #socket: Socket
  readonly #waiting = new Map<number, (answer: Answer) => void>()
  #next = 1
  #queue: Buffer[] = []
  #closed = false

  constructor(port: number) {
    this.#socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.#socket.on('error', () => this.#onClose())
    this.#socket.on('close', () => this.#onClose())
    this.#socket.on(
      'data',
      frameParser((id, outcome, content) => {
        const done = this.#waiting.get(id)
        this.#waiting.delete(id)
        const hint = content[0]
        const leader = hint === undefined || hint === 0xff ? undefined : hint
        if (outcome === OUTCOME.ok) done?.({ ok: true, content })
        else
          done?.({
            ok: false,
            ...(outcome === OUTCOME.notLeader ? { notLeader: true, leader } : {}),
          })
      }),
    )
  }

  put(key: Uint8Array, value: Uint8Array, done: (answer: Answer) => void): void {
    this.#send(OPERATION.put, putCommand(key, value), done)
  }

  get(key: Uint8Array, done: (answer: Answer) => void): void {
    this.#send(OPERATION.get, key, done)
  }

  transfer(done: (answer: Answer) => void): void {
    this.#send(OPERATION.transfer, new Uint8Array(), done)
  }

  status(done: (answer: Answer) => void): void {
    this.#send(OPERATION.status, new Uint8Array(), done)
  }

  close(): void {
    this.#socket.destroy()
  }

  #send(operation: number, content: Uint8Array, done: (answer: Answer) => void): void {
    if (this.#closed) {
      setImmediate(done, { ok: false })
      return
    }
    const id = this.#next
    this.#next = (this.#next + 1) >>> 0
    this.#waiting.set(id, done)
    if (this.#queue.length === 0) setImmediate(() => this.#flush())
    this.#queue.push(frame(id, operation, content))
  }

  #flush(): void {
    const queue = this.#queue
    this.#queue = []
    this.#socket.write(queue.length === 1 ? (queue[0] ?? '') : Buffer.concat(queue))
  }

  #onClose(): void {
    if (this.#closed) return
    this.#closed = true
    for (const done of this.#waiting.values()) done({ ok: false })
    this.#waiting.clear()
  }
}
