/** The process that makes load, so that its work is apart from the servers' and the script's. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Order } from './load.ts'

/** A load generator. */
export class Generator implements AsyncDisposable {
  readonly #child: ChildProcess = fork(new URL('load.ts', import.meta.url).pathname)

  /** Has it do one thing. @throws what went wrong there */
  async order<T>(order: Order): Promise<T> {
    const answered = once(this.#child, 'message')
    this.#child.send(order)
    const [{ result, error }] = (await answered) as [{ result: T; error?: string }]
    if (error !== undefined) throw new Error(error)
    return result
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill()
    await once(this.#child, 'exit')
  }
}
