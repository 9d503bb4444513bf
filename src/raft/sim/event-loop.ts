/**
 * The one queue of a simulation: events in order of virtual time, then of their making. After each
 * event all promise jobs that it set off have run before the next one is taken, so there is
 * exactly one order. Events belong to a process (`Host`): those of a dead one are dropped, those of
 * one that is stopped or busy wait.
 *
 * Draining without real I/O: node runs `process.nextTick` callbacks only after the promise queue is
 * empty, so a promise job that asks for the next tick is a barrier behind all jobs.
 */
import { nextTick } from 'node:process'
import { setImmediate } from 'node:timers'
import { EventHeap } from './event-heap.ts'
import { sealRealm } from './sealed-realm.ts'
import type { Host, EventKind, SimEvent } from './event.ts'

/** A planned event that can be called off. */
export interface Planned {
  cancel(): void
}

/** Events between two looks at the real world, where rejected promises are told of. */
const EVENTS_PER_TURN = 512

/** Virtual time and what happens in it. */
export class EventLoop {
  readonly #heap = new EventHeap()
  #order = 0
  /** After a stall, timers run before what came over the network, as in libuv. */
  readonly #timersFirst: boolean
  nowMs = 0
  /** Whose process the present event runs in. */
  touched: Host | undefined
  /** Events run so far. */
  count = 0

  constructor(options: { readonly timersFirst: boolean }) {
    this.#timersFirst = options.timersFirst
  }

  /** Plans `run` on `host`, or outside of every process. */
  after(
    delayMs: number,
    kind: EventKind,
    event: { readonly host?: Host | undefined; readonly run: () => void },
  ): Planned {
    this.#order += 1
    const planned: SimEvent = {
      timeMs: this.nowMs + Math.max(0, delayMs),
      order: this.#order,
      kind,
      host: event.host,
      run: event.run,
      cancelled: false,
    }
    this.#heap.push(planned)
    return {
      cancel: () => {
        planned.cancelled = true
      },
    }
  }

  /**
   * Runs events until `untilMs` or until `observe`, called after each one with its host, returns
   * false. Rejects when an event throws.
   */
  run(untilMs: number, observe: (host: Host | undefined) => boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    let event: SimEvent | undefined
    let unseal = sealRealm()
    const settled = Promise.resolve()
    const finish = (end: () => void): void => {
      unseal()
      end()
    }
    const step = (): void => {
      try {
        if (event !== undefined && !observe(this.touched)) return finish(resolve)
        event = this.#take(untilMs)
        if (event === undefined) return finish(resolve)
        event.run()
      } catch (error) {
        return finish(() => reject(error))
      }
      if (this.count % EVENTS_PER_TURN === 0) {
        unseal()
        setImmediate(() => {
          unseal = sealRealm()
          step()
        })
      } else void settled.then(barrier)
      return undefined
    }
    const barrier = (): void => nextTick(step)
    step()
    return promise
  }

  #take(untilMs: number): SimEvent | undefined {
    for (;;) {
      const event = this.#heap.peek()
      if (event === undefined || event.timeMs > untilMs) {
        this.nowMs = Math.max(this.nowMs, untilMs)
        return undefined
      }
      this.#heap.pop()
      const { host } = event
      if (event.cancelled || host?.alive === false) continue
      if (host !== undefined && host.busyUntilMs > event.timeMs) {
        this.#defer(event, host.busyUntilMs)
        continue
      }
      this.nowMs = event.timeMs
      this.touched = host
      this.count += 1
      return event
    }
  }

  #defer(event: SimEvent, untilMs: number): void {
    event.timeMs = untilMs
    // Timers keep their old place in the order, which is before everything planned since.
    if (!(this.#timersFirst && event.kind === 'timer')) {
      this.#order += 1
      event.order = this.#order
    }
    this.#heap.push(event)
  }
}
