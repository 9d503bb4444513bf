/**
 * A transport whose links can be cut while the process lives and its clients reach it: the one
 * fault that signals cannot make. Everything that would be sent or is received is lost.
 */
import { SwarmError } from '../../src/base/errors.ts'
import type { Transport, TransportHandler } from '../../src/raft/index.ts'

type SendSnapshot = Transport['sendSnapshot']

/** Another transport behind a switch. */
export class CutTransport implements Transport {
  readonly #inner: Transport
  isCut = false

  constructor(inner: Transport) {
    this.#inner = inner
  }

  start(handler: TransportHandler): void {
    this.#inner.start({
      onMessage: (from, message) => {
        if (!this.isCut) handler.onMessage(from, message)
      },
      onSnapshot: async (from, transfer) => {
        this.#assertWhole()
        await handler.onSnapshot(from, transfer)
      },
      onUnreachable: (peer, reason) => handler.onUnreachable(peer, reason),
    })
  }

  send(...[to, messages]: Parameters<Transport['send']>): void {
    if (!this.isCut) this.#inner.send(to, messages)
  }

  async sendSnapshot(...[to, transfer, options]: Parameters<SendSnapshot>): Promise<void> {
    this.#assertWhole()
    await this.#inner.sendSnapshot(to, transfer, options)
  }

  close(): Promise<void> {
    return this.#inner.close()
  }

  #assertWhole(): void {
    if (this.isCut) throw new SwarmError('UNAVAILABLE', 'raft: the links are cut by the test')
  }
}
