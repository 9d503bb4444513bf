/**
 * The window of append messages on their way to one follower, in messages and in bytes.
 * Source: etcd-io/raft `tracker/inflights.go`, in its semantics.
 */
import { assert } from '../../base/assert.ts'
import type { Index } from './entry.ts'

interface Inflight {
  /** Last index in the message. */
  readonly index: Index
  readonly bytes: number
}

/** Messages sent and not yet acknowledged, oldest first. */
export class Inflights {
  readonly #maxMessages: number
  readonly #maxBytes: number
  /** Live messages are `#queue[#head ..]`; the dead front is cut off when it outweighs the rest. */
  #queue: Inflight[] = []
  #head = 0
  #bytes = 0

  constructor(maxMessages: number, maxBytes: number) {
    this.#maxMessages = maxMessages
    this.#maxBytes = maxBytes
  }

  get count(): number {
    return this.#queue.length - this.#head
  }

  /** Whether nothing more may be sent. Bytes may overshoot by one message. */
  get full(): boolean {
    return this.count >= this.#maxMessages || this.#bytes >= this.#maxBytes
  }

  /** Adds a message; indexes ascend. */
  add(index: Index, bytes: number): void {
    assert(!this.full, 'the window is full')
    this.#queue.push({ index, bytes })
    this.#bytes += bytes
  }

  /** Frees every message that ends at `index` or before. */
  freeTo(index: Index): void {
    for (;;) {
      const oldest = this.#queue[this.#head]
      if (oldest === undefined || oldest.index > index) break
      this.#bytes -= oldest.bytes
      this.#head += 1
    }
    if (this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head)
      this.#head = 0
    }
  }

  /** Frees everything. */
  reset(): void {
    this.#queue = []
    this.#head = 0
    this.#bytes = 0
  }

  /** An independent copy. */
  clone(): Inflights {
    const copy = new Inflights(this.#maxMessages, this.#maxBytes)
    copy.#queue = this.#queue.slice(this.#head)
    copy.#bytes = this.#bytes
    return copy
  }
}
