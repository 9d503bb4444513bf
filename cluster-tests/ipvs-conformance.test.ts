/**
 * The load balancer port's conformance suite against the IPVS driver, on kernels that have IPVS: in
 * User Mode Linux, and in QEMU where nftables gives the marks. One boot a kernel, in which ava runs
 * the suite; each of its cases is a test here.
 */
import { join } from 'node:path'
import test from 'ava'
import { conformanceTitles } from '../src/network/conformance.ts'
import type { GuestTier } from './guest/guest-run.ts'
import { missingGuest, runInGuest } from './guest/run-in-guest.ts'

const PROJECT = join(import.meta.dirname, '..')
const AVA = join(PROJECT, 'node_modules/ava/entrypoints/cli.js')
/** Two minutes on a machine that does nothing else. */
const GUEST_TIMEOUT_MS = 900_000
const TIERS: readonly GuestTier[] = ['uml', 'qemu']

/** As `ipvs/conformance-suite.ts` registers them. */
const TITLES: readonly string[] = ['', ', in IPv6'].flatMap((suffix) =>
  conformanceTitles({ driver: 'kernel', suffix }),
)

/** What ava said of a case: nothing where it passed. */
type Results = ReadonlyMap<string, string>

/** Boots the guest; the results by title. */
async function runSuite(tier: GuestTier): Promise<Results> {
  const { stdout, stderr, status } = await runInGuest({
    tier,
    command: [process.execPath, AVA, '--config', 'cluster-tests/ipvs/ava.config.js', '--tap'],
    cwd: PROJECT,
    timeoutMs: GUEST_TIMEOUT_MS,
    environment: { SKEIN_GUEST_TIER: tier },
  })
  const results = readTap(stdout)
  if (results.size === 0) throw new Error(`${tier} guest: status ${status}\n${stdout}\n${stderr}`)
  return results
}

/** Titles and the lines behind each that failed. */
function readTap(text: string): Results {
  const results = new Map<string, string>()
  for (const part of text.split(/^(?=(?:not )?ok \d)/m)) {
    const [first = '', ...lines] = part.split('\n')
    const [, failed, title] = /^(not )?ok \d+ - (.*)$/.exec(first) ?? []
    if (title !== undefined) results.set(title, failed === undefined ? '' : lines.join('\n'))
  }
  return results
}

for (const tier of TIERS) {
  const missing = missingGuest(tier)
  let running: Promise<Results> | undefined
  for (const title of TITLES) {
    if (missing !== undefined) {
      test.serial.skip(`${tier}: ${title} (${missing})`, (t) => t.fail())
      continue
    }
    test.serial(`${tier}: ${title}`, async (t) => {
      t.timeout(GUEST_TIMEOUT_MS)
      running ??= runSuite(tier)
      t.is((await running).get(title), '')
    })
  }
}
