/** A binary heap of events, earliest first. Invariant: no event is before its parent. */
import { at } from '../../base/assert.ts'
import type { SimEvent } from './event.ts'

/** A priority queue by (time, order). */
export class EventHeap {
  readonly #events: SimEvent[] = []

  peek(): SimEvent | undefined {
    return this.#events[0]
  }

  push(event: SimEvent): void {
    const events = this.#events
    let place = events.length
    events.push(event)
    while (place > 0) {
      const parent = (place - 1) >> 1
      const other = at(events, parent)
      if (!isBefore(event, other)) break
      events[place] = other
      place = parent
    }
    events[place] = event
  }

  pop(): SimEvent | undefined {
    const events = this.#events
    const first = events[0]
    const last = events.pop()
    if (last === undefined || events.length === 0) return first
    this.#sink(last)
    return first
  }

  #sink(event: SimEvent): void {
    const events = this.#events
    let place = 0
    for (;;) {
      let child = 2 * place + 1
      if (child >= events.length) break
      const right = events[child + 1]
      if (right !== undefined && isBefore(right, at(events, child))) child += 1
      const other = at(events, child)
      if (!isBefore(other, event)) break
      events[place] = other
      place = child
    }
    events[place] = event
  }
}

function isBefore(a: SimEvent, b: SimEvent): boolean {
  return a.timeMs < b.timeMs || (a.timeMs === b.timeMs && a.order < b.order)
}
