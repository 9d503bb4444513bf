/**
 * Events of multicast groups, in order. When more happens than is read, the kernel drops events and
 * says so: `onLost` is called, and what was learned from events must be read again by a dump.
 */
import { readMessages } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import type { Native, NativeSocket } from './native.ts'
import { NetlinkError, errnoName, fromNative } from './netlink-error.ts'
import { PROTOCOLS, RECEIVE_BYTES } from './socket.ts'
import type { SocketOptions } from './socket.ts'

/** Who wants the events. A handler that throws ends the process, as any uncaught error. */
export interface MonitorHandlers {
  readonly onMessage: (message: NetlinkMessage) => void
  /** Events were lost (ENOBUFS), or the subscription ended by any other error. */
  readonly onLost: (error: NetlinkError) => void
}

/** A subscription. It does not keep the process alive. Close it, or use `using`. */
export class NetlinkMonitor implements Disposable {
  readonly #native: Native
  readonly #socket: NativeSocket
  #isClosed = false

  private constructor(native: Native, socket: NativeSocket) {
    this.#native = native
    this.#socket = socket
  }

  /**
   * Subscribes to groups (of `RTNLGRP`, or of a generic family) in a namespace. Events that happen
   * after it resolves are delivered. @throws NetlinkError
   */
  static async open(
    native: Native,
    options: SocketOptions & { readonly groups: readonly number[] },
    handlers: MonitorHandlers,
  ): Promise<NetlinkMonitor> {
    const operation = `subscribe to ${options.protocol} netlink`
    let monitor: NetlinkMonitor | undefined
    try {
      const protocol = PROTOCOLS[options.protocol]
      const socket = await native.open(protocol, options.netns ?? null, RECEIVE_BYTES, 0)
      monitor = new NetlinkMonitor(native, socket)
      monitor.#subscribe(options.groups, handlers)
      return monitor
    } catch (error) {
      monitor?.close()
      throw fromNative(error, operation)
    }
  }

  /** Ends the delivery at once. Again does nothing. */
  close(): void {
    this.#isClosed = true
    this.#native.close(this.#socket)
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #subscribe(groups: readonly number[], handlers: MonitorHandlers): void {
    const onEvents = (bytes: Uint8Array, errno: number): void => {
      if (errno === 0) this.#deliver(bytes, handlers)
      else if (!this.#isClosed) handlers.onLost(new NetlinkError(errnoName(errno), 'read events'))
    }
    for (const [index, group] of groups.entries()) {
      this.#native.subscribe(this.#socket, group, index === 0 ? onEvents : null)
    }
  }

  #deliver(bytes: Uint8Array, handlers: MonitorHandlers): void {
    for (const message of readMessages(bytes)) {
      if (this.#isClosed) return
      handlers.onMessage(message)
    }
  }
}
