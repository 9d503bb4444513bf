/**
 * Deadlines on the injected clock, for what takes an `AbortSignal`. Every call of libp2p gets one:
 * several of its own timeouts are missing or too long (`reference/libp2p.md` §2.3).
 */
import type { Clock } from './clock.ts'
import { SwarmError } from './errors.ts'

/** A signal that aborts in time; dispose it when the work is done, so that no timer is left. */
export interface Deadline extends Disposable {
  readonly signal: AbortSignal
}

/** Aborts with TIMED_OUT after `timeoutMs`, or with ABORTED when `parent` aborts. */
export function deadline(
  clock: Clock,
  timeoutMs: number,
  subject: string,
  parent?: AbortSignal,
): Deadline {
  const controller = new AbortController()
  const timer = clock.after(timeoutMs, () => {
    controller.abort(new SwarmError('TIMED_OUT', `${subject}: no answer within ${timeoutMs} ms`))
  })
  const onParent = (): void => controller.abort(withdrawn(subject, parent))
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

/** Rejects with the signal's reason when it aborts before `work` is done. */
export function within<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

function withdrawn(subject: string, parent: AbortSignal | undefined): SwarmError {
  return new SwarmError('ABORTED', `${subject}: withdrawn by the caller`, {
    cause: parent?.reason as unknown,
  })
}
