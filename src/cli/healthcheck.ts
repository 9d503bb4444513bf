/**
 * The health check flags of `service create` and `update`, as docker's client turns them into a
 * spec.
 */
import type { ContainerSpec, HealthcheckSpec } from '../store/spec.ts'
import type { Arguments } from './arguments.ts'
import { CommandError } from './command.ts'

const DURATIONS = [
  ['health-interval', 'Interval'],
  ['health-timeout', 'Timeout'],
  ['health-start-period', 'StartPeriod'],
  ['health-start-interval', 'StartInterval'],
] as const

/** What is sent; nothing without any of the flags: then the image's own counts. */
export function healthcheckMember(given: Arguments): Pick<ContainerSpec, 'Healthcheck'> {
  const spec = healthcheck(given)
  if (!given.flag('no-healthcheck')) {
    return Object.keys(spec).length === 0 ? {} : { Healthcheck: spec }
  }
  if (Object.keys(spec).length > 0) {
    throw new CommandError('--no-healthcheck conflicts with --health-* options')
  }
  return { Healthcheck: { Test: ['NONE'] } }
}

/** The check after an update that found `before`; undefined: still none of the service's own. */
export function changedHealthcheck(
  given: Arguments,
  before: HealthcheckSpec | undefined,
): HealthcheckSpec | undefined {
  const { Healthcheck: change } = healthcheckMember(given)
  if (change === undefined || given.flag('no-healthcheck')) return change ?? before
  const { Test: test, ...kept } = before ?? {}
  // What was disabled is not any more when somebody says how it is to be.
  const isKept = test !== undefined && test[0] !== 'NONE'
  return { ...kept, ...(isKept ? { Test: test } : {}), ...change }
}

function healthcheck(given: Arguments): HealthcheckSpec {
  const line = given.text('health-cmd') ?? ''
  const retries = given.number('health-retries', 'uint')
  const durations = DURATIONS.flatMap(([flag, member]) => {
    const ns = given.number(flag, 'duration')
    return ns === undefined ? [] : [[member, ns]]
  })
  return {
    ...(line === '' ? {} : { Test: ['CMD-SHELL', line] }),
    ...(Object.fromEntries(durations) as Pick<HealthcheckSpec, (typeof DURATIONS)[number][1]>),
    ...(retries === undefined ? {} : { Retries: retries }),
  }
}
