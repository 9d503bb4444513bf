/**
 * `skein doctor`: what this host can do and what will hurt, without a daemon and without changing
 * anything that lasts. Each check stands alone: one that cannot look says so and the rest go on.
 */
import { errorText } from '../../base/errors.ts'
import type { Clock } from '../../base/clock.ts'
import { systemClock } from '../../base/clock.ts'
import type { Check, Finding } from './finding.ts'
import { fail, warn, worstLevel } from './finding.ts'
import { hostChecks } from './host-checks.ts'
import { networkChecks } from './network-checks.ts'
import { storageChecks } from './storage-checks.ts'

/** What is examined. */
export interface DoctorOptions {
  readonly dataDirectory: string
  /** `host:port` of the mesh. */
  readonly listenAddress: string
}

/** Milliseconds that one check may take. */
const CHECK_TIMEOUT_MS = 20_000

/** All findings, in a fixed order. */
export async function examine(
  options: DoctorOptions,
  clock: Clock = systemClock,
): Promise<readonly Finding[]> {
  const checks = [
    ...hostChecks({ clock }),
    ...storageChecks({ clock }, options),
    ...networkChecks(options),
  ]
  const findings: Finding[] = []
  // One after the other: a disk that is timed shares the machine with nobody.
  for (const check of checks) findings.push(...(await runCheck(check, clock)))
  return findings
}

export { worstLevel }
export type { Finding }

async function runCheck(check: Check, clock: Clock): Promise<readonly Finding[]> {
  const late = Promise.withResolvers<readonly Finding[]>()
  const timer = clock.after(CHECK_TIMEOUT_MS, () =>
    late.resolve([fail(check.name, 'no answer in 20 s', 'look at the kernel log (dmesg)')]),
  )
  const run = async (): Promise<readonly Finding[]> => {
    try {
      const found = await check.run()
      return Array.isArray(found) ? (found as readonly Finding[]) : [found as Finding]
    } catch (error) {
      return [warn(check.name, `could not look: ${errorText(error)}`, 'run it as root')]
    }
  }
  try {
    return await Promise.race([run(), late.promise])
  } finally {
    timer.cancel()
  }
}
