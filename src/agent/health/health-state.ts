/**
 * What a series of checks says of a container. Pure; times are milliseconds of a monotonic clock.
 *
 * ```
 *            a check passed
 *  starting ───────────────► healthy
 *      │  `retries` failures    │  `retries` failures in a row
 *      │  after the start       ▼
 *      └──── period ──────► unhealthy
 * ```
 * Unhealthy is the end here: its task is stopped. Source: moby `daemon/health.go`
 * (`handleProbeResult`, `monitor`), in its behaviour.
 */
import { assert } from '../../base/assert.ts'
import type { HealthCheck } from './health-check.ts'

/** See the module. */
export type HealthStatus = 'starting' | 'healthy' | 'unhealthy'

const TRANSITIONS: Readonly<Record<HealthStatus, readonly HealthStatus[]>> = {
  starting: ['healthy', 'unhealthy'],
  healthy: ['unhealthy'],
  unhealthy: [],
}

/** The health of one container. */
export class HealthState {
  readonly #check: HealthCheck
  readonly #startedMs: number
  #status: HealthStatus
  /** Failures since the last check that passed, but for those of the start period. */
  #failures = 0

  /** `known`: what an earlier daemon had found. */
  constructor(
    check: HealthCheck,
    begin: { readonly startedMs: number; readonly known: 'starting' | 'healthy' },
  ) {
    this.#check = check
    this.#startedMs = begin.startedMs
    this.#status = begin.known
  }

  get status(): HealthStatus {
    return this.#status
  }

  /** Milliseconds from now, the end of the last check, to the next one. */
  delayMs(nowMs: number): number {
    const { intervalMs, startIntervalMs } = this.#check
    return this.#isStartPeriod(nowMs) ? startIntervalMs : intervalMs
  }

  /** A check that began at `begunMs` has passed or failed. Returns the status after it. */
  onResult(passed: boolean, begunMs: number): HealthStatus {
    assert(this.#status !== 'unhealthy', 'health: a check after the last one')
    if (passed) {
      this.#failures = 0
      this.#become('healthy')
    } else if (!this.#isStartPeriod(begunMs)) {
      this.#failures += 1
      if (this.#failures >= this.#check.retries) this.#become('unhealthy')
    }
    return this.#status
  }

  #isStartPeriod(nowMs: number): boolean {
    return this.#status === 'starting' && nowMs - this.#startedMs < this.#check.startPeriodMs
  }

  #become(status: HealthStatus): void {
    if (status === this.#status) return
    assert(TRANSITIONS[this.#status].includes(status), `health: ${this.#status} to ${status}`)
    this.#status = status
  }
}
