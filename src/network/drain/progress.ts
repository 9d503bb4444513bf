/**
 * Up to which entry of the store a reconciler has brought everything into the kernel.
 *
 * ```
 *          note            begin             end
 *   idle ────────► due ──────────► working ────────► idle
 *    ▲              ▲                 │ end, noted meanwhile
 *    │ end          └─────────────────┘
 * ```
 * Invariants: while nothing is due and nothing is at work, all that the store's last entry caused
 * has ended, so entries that change nothing here count at once. What a pass read when it began has
 * ended when it ends, faults included: they are tried again by timer, which nobody waits for. What
 * is noted during a pass may or may not be part of it, and counts with the next one.
 */
import { SwarmError } from '../../base/errors.ts'
import type { StoreView } from '../../store/view.ts'

/** How far the kernel follows the store. */
export interface Programmed {
  /** All that entries up to this one caused has ended in the kernel. */
  readonly index: number
  /**
   * Resolves when `index` is at least this; waits for the replica too.
   * @throws the signal's reason, SHUTTING_DOWN when nothing follows the store any more
   */
  reached(index: number, options: { readonly signal: AbortSignal }): Promise<void>
}

interface Waiter {
  readonly index: number
  readonly resolve: () => void
  readonly reject: (reason: Error) => void
}

/** The progress of one reconciler; it is told of each change and each pass. */
export class Progress implements Programmed {
  readonly #store: Pick<StoreView, 'index' | 'waitForIndex'>
  readonly #waiters = new Set<Waiter>()
  #status: 'idle' | 'due' | 'working' | 'stopped' = 'due'
  /** What counts while it is not idle. */
  #doneIndex = 0
  /** The store's index when the pass began. */
  #beganIndex = 0
  /** What counts after the pass if something was noted during it, at most. */
  #notedIndex: number | undefined

  /** At first everything is due. */
  constructor(store: Pick<StoreView, 'index' | 'waitForIndex'>) {
    this.#store = store
  }

  get index(): number {
    return this.#status === 'idle' ? this.#store.index : this.#doneIndex
  }

  /** Something is due: by the store's last entry, or by something else just now. */
  note(): void {
    if (this.#status === 'idle') {
      this.#status = 'due'
      this.#doneIndex = this.#store.index - 1
    } else if (this.#status === 'working') {
      this.#notedIndex ??= this.#store.index - 1
    }
  }

  /** A pass begins that takes all along that was noted. */
  begin(): void {
    this.note()
    if (this.#status === 'stopped') return
    this.#status = 'working'
    this.#beganIndex = this.#store.index
    this.#notedIndex = undefined
  }

  /** The pass has ended, in the kernel too. */
  end(): void {
    if (this.#status !== 'working') return
    const noted = this.#notedIndex
    this.#status = noted === undefined ? 'idle' : 'due'
    this.#doneIndex = Math.max(this.#doneIndex, Math.min(this.#beganIndex, noted ?? Infinity))
    for (const waiter of this.#waiters) if (waiter.index <= this.index) waiter.resolve()
  }

  /** Nothing follows the store any more. */
  stop(): void {
    this.#status = 'stopped'
    for (const waiter of this.#waiters) waiter.reject(stopped())
  }

  async reached(index: number, options: { readonly signal: AbortSignal }): Promise<void> {
    const { signal } = options
    await this.#store.waitForIndex(index, { signal })
    if (this.#status === 'stopped') throw stopped()
    if (index > this.index) await this.#wait(index, signal)
  }

  #wait(index: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(signal.reason as Error)
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        signal.removeEventListener('abort', onAbort)
        this.#waiters.delete(waiter)
      }
      const waiter = {
        index,
        resolve: () => (leave(), resolve()),
        reject: (reason: Error) => (leave(), reject(reason)),
      }
      const onAbort = (): void => waiter.reject(signal.reason as Error)
      signal.addEventListener('abort', onAbort, { once: true })
      this.#waiters.add(waiter)
    })
  }
}

/** Several parts of one kernel: what all of them have reached. */
export function programmedByAll(parts: readonly Programmed[]): Programmed {
  return {
    get index() {
      return Math.min(...parts.map((part) => part.index))
    },
    async reached(index, options) {
      await Promise.all(parts.map((part) => part.reached(index, options)))
    },
  }
}

function stopped(): SwarmError {
  return new SwarmError('SHUTTING_DOWN', 'network: this node’s balancers follow the store no more')
}
