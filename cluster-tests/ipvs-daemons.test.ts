/**
 * Real daemons and real containers on a kernel with IPVS and nftables: one QEMU guest, in it three
 * hosts and a client outside. Each case is a test here. Two emulated processors take eight minutes
 * for all, and the first test waits for them.
 */
import { join } from 'node:path'
import test from 'ava'
import { missingGuest, runInGuest } from './guest/run-in-guest.ts'
import { DAEMON_CASES } from './ipvs-daemons/cases.ts'
import type { CaseResult } from './ipvs/run.ts'

const GUEST_TIMEOUT_MS = 1_800_000
/** Three daemons, their containers' files and a kernel, all in memory. */
const MEMORY_MIB = 3_072
/** How much longer than elsewhere all limits of the harness are. */
const PATIENCE = '12'

interface GuestRecord {
  readonly results: ReadonlyMap<string, CaseResult>
  /** What else the guest said; for a failed case. */
  readonly rest: string
}

/** Boots the guest and runs all cases, one after another. */
async function runCases(): Promise<GuestRecord> {
  const { stdout, stderr, status } = await runInGuest({
    tier: 'qemu',
    command: [process.execPath, join(import.meta.dirname, 'ipvs-daemons/run-daemons.ts')],
    timeoutMs: GUEST_TIMEOUT_MS,
    memoryMib: MEMORY_MIB,
    // Memory there: the rest of the guest's files lie on an overlay, which containers cannot.
    environment: { TMPDIR: '/run', SKEIN_TEST_PATIENCE: PATIENCE },
  })
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'))
  const results = lines.map((line) => JSON.parse(line) as CaseResult)
  return {
    results: new Map(results.map((result) => [result.title, result])),
    rest: `guest: status ${status}\n${stderr}`,
  }
}

const missing = missingGuest('qemu')
let running: Promise<GuestRecord> | undefined
for (const { title } of DAEMON_CASES) {
  if (missing !== undefined) {
    test.serial.skip(`${title} (${missing})`, (t) => t.fail())
    continue
  }
  test.serial(title, async (t) => {
    t.timeout(GUEST_TIMEOUT_MS)
    running ??= runCases()
    const { results, rest } = await running
    const result = results.get(title)
    if (result === undefined) return t.fail(`the guest ended before this case\n${rest}`)
    for (const note of result.notes) t.log(note)
    t.log(`${Math.round(result.durationMs / 1_000)} s`)
    if (!result.isPassed) t.log(rest)
    return t.true(result.isPassed, result.error)
  })
}
