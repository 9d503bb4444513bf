/** What happens in a simulation, and to whom. */

/** One life of a process. */
export interface Host {
  alive: boolean
  /** Stopped or busy until then, virtual milliseconds. */
  busyUntilMs: number
}

/** Kinds of events; timers may overtake others after a stall. */
export type EventKind = 'timer' | 'network' | 'disk' | 'script'

/** An event in the queue. */
export interface SimEvent {
  timeMs: number
  order: number
  readonly kind: EventKind
  readonly host: Host | undefined
  readonly run: () => void
  cancelled: boolean
}
