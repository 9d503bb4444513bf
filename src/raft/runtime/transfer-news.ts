/** Tells how the transfer of a snapshot goes, not more often than anybody wants to know. */
import type { Clock } from '../../base/clock.ts'
import type { StoredSnapshot } from '../storage/ports.ts'
import type { Observation, TransferPhase } from './observations.ts'
import type { ServerId } from './ports.ts'
import type { TransferProgress } from './snapshot-sender.ts'

/** Time between two observations that something moved. */
const NEWS_INTERVAL_MS = 1_000

/** News of one transfer. */
export class TransferNews {
  readonly #clock: Clock
  readonly #what: { readonly peer: ServerId; readonly stored: StoredSnapshot }
  readonly #tell: (observation: Observation) => void
  #toldMs: number
  /** Bytes that observations have told of. */
  #toldBytes = 0

  constructor(
    clock: Clock,
    what: { readonly peer: ServerId; readonly stored: StoredSnapshot },
    tell: (observation: Observation) => void,
  ) {
    this.#clock = clock
    this.#what = what
    this.#tell = tell
    this.#toldMs = clock.monotonicMs()
  }

  onProgress(phase: 'started' | 'resumed' | 'moved', progress: TransferProgress): void {
    const nowMs = this.#clock.monotonicMs()
    if (phase === 'moved' && nowMs - this.#toldMs < NEWS_INTERVAL_MS) return
    this.#toldMs = nowMs
    this.tell(phase, progress)
  }

  /** Told in any case. */
  tell(phase: TransferPhase, { sentBytes, offset, sizeBytes, attempts }: TransferProgress): void {
    const { peer, stored } = this.#what
    const { index, term } = stored.metadata
    const newBytes = sentBytes - this.#toldBytes
    this.#toldBytes = sentBytes
    const figures = { sentBytes, newBytes, offset, sizeBytes, attempts }
    this.#tell({ type: 'snapshotTransfer', peer, index, term, phase, ...figures })
  }
}
