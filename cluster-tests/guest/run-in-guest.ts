/**
 * Runs a command in a throw-away kernel that sees this machine's files and can change none of them.
 * The kernels come from Debian's packages; where one is missing and cannot be had, `missingGuest`
 * says why, and a test skips itself with that reason.
 */
import type { GuestResult, GuestRun, GuestTier } from './guest-run.ts'
import { missingQemu, runInQemu } from './qemu.ts'
import { missingUml, runInUml } from './uml.ts'

/** Why a tier cannot run here; undefined when it can. May fetch packages. */
export function missingGuest(tier: GuestTier): string | undefined {
  return tier === 'uml' ? missingUml() : missingQemu()
}

/** Boots, runs, powers off. The guest's command may fail: see `status`. @throws GuestError */
export function runInGuest(run: GuestRun): Promise<GuestResult> {
  return run.tier === 'uml' ? runInUml(run) : runInQemu(run)
}
