/**
 * The IPVS driver on kernels that have IPVS: the table in User Mode Linux, traffic in User Mode
 * Linux and, with nftables giving the marks, in QEMU. One boot a group; each case is a test here.
 * `SEED=…` repeats a random run.
 */
import { join } from 'node:path'
import test from 'ava'
import type { GuestTier } from './guest/guest-run.ts'
import { missingGuest, runInGuest } from './guest/run-in-guest.ts'
import type { Case } from './ipvs/case.ts'
import type { CaseResult } from './ipvs/run.ts'
import { TABLE_CASES } from './ipvs/table-cases.ts'
import { TRAFFIC_CASES } from './ipvs/traffic-cases.ts'

/** The random sequences take two minutes on a machine that does nothing else. */
const GUEST_TIMEOUT_MS = 900_000

interface Group {
  readonly tier: GuestTier
  readonly program: string
  readonly cases: readonly Case[]
}

const GROUPS: readonly Group[] = [
  { tier: 'uml', program: 'run-table.ts', cases: TABLE_CASES },
  { tier: 'uml', program: 'run-traffic.ts', cases: TRAFFIC_CASES },
  { tier: 'qemu', program: 'run-traffic.ts', cases: TRAFFIC_CASES },
]

/** Boots the group's guest; the results by title. */
async function runGroup({ tier, program }: Group): Promise<ReadonlyMap<string, CaseResult>> {
  const seed = process.env['SEED']
  const { stdout, stderr, status } = await runInGuest({
    tier,
    command: [process.execPath, join(import.meta.dirname, 'ipvs', program)],
    timeoutMs: GUEST_TIMEOUT_MS,
    environment: { SKEIN_GUEST_TIER: tier, ...(seed === undefined ? {} : { SEED: seed }) },
  })
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'))
  if (lines.length === 0) throw new Error(`${tier} guest: status ${status}\n${stdout}\n${stderr}`)
  const results = lines.map((line) => JSON.parse(line) as CaseResult)
  return new Map(results.map((result) => [result.title, result]))
}

for (const group of GROUPS) {
  const missing = missingGuest(group.tier)
  let running: Promise<ReadonlyMap<string, CaseResult>> | undefined
  for (const { title } of group.cases) {
    if (missing !== undefined) {
      test.serial.skip(`${group.tier}: ${title} (${missing})`, (t) => t.fail())
      continue
    }
    test.serial(`${group.tier}: ${title}`, async (t) => {
      t.timeout(GUEST_TIMEOUT_MS)
      running ??= runGroup(group)
      const result = (await running).get(title)
      if (result === undefined) return t.fail('the guest ended before this case')
      for (const note of result.notes) t.log(note)
      return t.true(result.isPassed, result.error)
    })
  }
}

const ipvlanMissing = missingGuest('uml')
const ipvlanTest = ipvlanMissing === undefined ? test.serial : test.serial.skip

ipvlanTest(`uml: tasks of two hosts meet on an ipvlan${ipvlanMissing ?? ''}`, async (t) => {
  t.timeout(GUEST_TIMEOUT_MS)
  const program = join(import.meta.dirname, 'ipvs', 'run-ipvlan.ts')
  const command = [process.execPath, program]
  const { stdout, stderr } = await runInGuest({ tier: 'uml', command, timeoutMs: GUEST_TIMEOUT_MS })
  t.regex(stdout, /3 packets received/, stderr)
  t.regex(stdout, /mtu 1300[^]*ipvlan +mode l2/)
})
