/** A bound on the injected clock for what takes an `AbortSignal`. */
import type { Clock } from '../../base/clock.ts'
import { SwarmError } from '../../base/errors.ts'

/** Dispose it when the work is done, so that no timer is left. */
export interface TimeLimit extends Disposable {
  readonly signal: AbortSignal
}

/** Aborts with TIMED_OUT after `limitMs`, or with the reason of `parent`. */
export function timeLimit(
  clock: Clock,
  limitMs: number,
  subject: string,
  parent?: AbortSignal,
): TimeLimit {
  const controller = new AbortController()
  const timer = clock.after(limitMs, () =>
    controller.abort(new SwarmError('TIMED_OUT', `${subject} within ${limitMs} ms`)),
  )
  const onParent = (): void => controller.abort(parent?.reason)
  if (parent?.aborted === true) onParent()
  else parent?.addEventListener('abort', onParent, { once: true })
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => {
      timer.cancel()
      parent?.removeEventListener('abort', onParent)
    },
  }
}

/** What `work` gives, unless the signal aborts first. @throws the signal's reason */
export function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}
