/** A log store on a slower disk: every write takes so much longer. */
import { delay, systemClock } from '../../src/base/clock.ts'
import type { LogStore } from '../../src/raft/index.ts'

/** Adds `delayMs` to each write of `store`. */
export class SlowStore implements LogStore {
  readonly open: LogStore['open']
  readonly read: LogStore['read']
  readonly compact: LogStore['compact']
  readonly reset: LogStore['reset']
  readonly close: LogStore['close']
  readonly append: LogStore['append']

  constructor(store: LogStore, delayMs: number) {
    this.open = () => store.open()
    this.read = (low, high) => store.read(low, high)
    this.compact = (base) => store.compact(base)
    this.reset = (base, hardState) => store.reset(base, hardState)
    this.close = () => store.close()
    this.append = async (batch) => {
      await delay(systemClock, delayMs)
      await store.append(batch)
    }
  }
}
