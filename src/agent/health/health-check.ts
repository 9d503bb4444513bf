/**
 * The health check that a container really has: the service's words over its image's, with Docker's
 * defaults below both.
 * Source: moby `daemon/health.go`, `daemon/commit.go` (`merge`), in their behaviour.
 */
import type { ReadyImage } from '../../image/ports.ts'
import type { HealthcheckSpec } from '../../store/spec.ts'

/** Docker's defaults, milliseconds and failures. */
export const HEALTH_DEFAULTS = {
  intervalMs: 30_000,
  timeoutMs: 30_000,
  startPeriodMs: 0,
  startIntervalMs: 5_000,
  retries: 3,
} as const

/** Longest duration that a timer takes (2^31 - 1 ms): an image's are not checked before. */
const TIMER_MS_MAX = 2 ** 31 - 1

const NANOSECONDS_PER_MS = 1e6

/** What runs a line of a check when the image names no SHELL. */
const SHELL_DEFAULT = ['/bin/sh', '-c']

/** A check with everything filled in. */
export interface HealthCheck {
  readonly argv: readonly string[]
  /** Between the end of a check and the next. */
  readonly intervalMs: number
  readonly timeoutMs: number
  /** Failures in the start period do not count. */
  readonly startPeriodMs: number
  /** The interval in the start period, until a check passed. */
  readonly startIntervalMs: number
  /** Failures in a row that make the container unhealthy. */
  readonly retries: number
}

/** The check of a container; undefined when it has none or one that says nothing. */
export function effectiveCheck(
  spec: HealthcheckSpec | undefined,
  image: ReadyImage['config'],
): HealthCheck | undefined {
  const given = spec ?? {}
  const inherited = image.healthcheck ?? {}
  const argv = argvOf(chosen(given.Test) ?? chosen(inherited.Test) ?? [], image.shell)
  if (argv === undefined) return undefined
  const ms = (name: DurationName, fallback: number): number => {
    const ns = positive(given[name]) ?? positive(inherited[name])
    return ns === undefined ? fallback : Math.min(ns / NANOSECONDS_PER_MS, TIMER_MS_MAX)
  }
  return {
    argv,
    intervalMs: ms('Interval', HEALTH_DEFAULTS.intervalMs),
    timeoutMs: ms('Timeout', HEALTH_DEFAULTS.timeoutMs),
    startPeriodMs: ms('StartPeriod', HEALTH_DEFAULTS.startPeriodMs),
    startIntervalMs: ms('StartInterval', HEALTH_DEFAULTS.startIntervalMs),
    retries: positive(given.Retries) ?? positive(inherited.Retries) ?? HEALTH_DEFAULTS.retries,
  }
}

type DurationName = 'Interval' | 'Timeout' | 'StartPeriod' | 'StartInterval'

function argvOf(
  [kind, ...words]: readonly string[],
  shell: readonly string[] = SHELL_DEFAULT,
): readonly string[] | undefined {
  if (words.length === 0 || words[0] === '') return undefined
  if (kind === 'CMD') return words
  return kind === 'CMD-SHELL' ? [...shell, ...words] : undefined
}

function chosen(test: readonly string[] | undefined): readonly string[] | undefined {
  return test === undefined || test.length === 0 ? undefined : test
}

function positive(value: number | undefined): number | undefined {
  return value === undefined || value <= 0 ? undefined : value
}
