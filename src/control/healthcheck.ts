/**
 * What a service may ask of a health check. Docker's rules and words; beyond them a test of an
 * unknown kind is refused here, where Docker takes it and then never checks.
 * Source: swarmkit `manager/controlapi/service.go`, `validateHealthCheck`, in its behaviour.
 */
import { SwarmError } from '../base/errors.ts'
import type { HealthcheckSpec } from '../store/spec.ts'

/** 1 ms in nanoseconds: the least that Docker takes for a duration that is not 0. */
export const HEALTH_DURATION_NS_MIN = 1_000_000

/** Two weeks in nanoseconds: what a timer can still count in milliseconds, and then some. */
export const HEALTH_DURATION_NS_MAX = 14 * 24 * 3600 * 1e9

/** Most failures in a row that a check may ask for. */
export const HEALTH_RETRIES_MAX = 10_000

/** Longest test, all words together, in UTF-16 units: it travels in every task of the service. */
export const HEALTH_TEST_LENGTH_MAX = 32 * 1024

const DURATIONS = ['Interval', 'Timeout', 'StartPeriod', 'StartInterval'] as const

/** @throws INVALID_ARGUMENT */
export function assertHealthcheck(spec: HealthcheckSpec | undefined): void {
  if (spec === undefined) return
  for (const name of DURATIONS) {
    const ns = spec[name] ?? 0
    if (ns === 0) continue
    if (ns < HEALTH_DURATION_NS_MIN)
      throw refused(`${name} in HealthConfig cannot be less than 1ms`)
    if (ns > HEALTH_DURATION_NS_MAX) {
      throw refused(`${name} in HealthConfig cannot be more than 336h`)
    }
  }
  const retries = spec.Retries ?? 0
  if (retries < 0) throw refused('Retries in HealthConfig cannot be negative')
  if (retries > HEALTH_RETRIES_MAX) {
    throw refused(`Retries in HealthConfig cannot be more than ${HEALTH_RETRIES_MAX}`)
  }
  assertTest(spec.Test ?? [])
}

function assertTest(test: readonly string[]): void {
  const [kind, ...words] = test
  if (kind === undefined) return
  const length = words.reduce((sum, word) => sum + word.length, 0)
  if (length > HEALTH_TEST_LENGTH_MAX) {
    throw refused(`Test in HealthConfig is longer than ${HEALTH_TEST_LENGTH_MAX}`)
  }
  if (kind === 'NONE' && words.length === 0) return
  if (kind !== 'CMD' && kind !== 'CMD-SHELL') {
    throw refused(`Test in HealthConfig must be [NONE], [CMD, …] or [CMD-SHELL, line]`)
  }
  if ((words[0] ?? '') === '') throw refused(`Test in HealthConfig: ${kind} names no command`)
}

function refused(what: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `ContainerSpec: ${what}`)
}
