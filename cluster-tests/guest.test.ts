/** The harness of throw-away kernels: what a guest may do, and that the host comes out unharmed. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import type { GuestResult, GuestRun, GuestTier } from './guest/guest-run.ts'
import { GuestError } from './guest/guest-run.ts'
import { missingGuest, runInGuest } from './guest/run-in-guest.ts'

const TIERS: readonly GuestTier[] = ['uml', 'qemu']
const TEST_TIMEOUT_MS = 240_000
/** Long enough that the guest is up and has spoken, also on a busy machine. */
const HANGING_MS: Readonly<Record<GuestTier, number>> = { uml: 20_000, qemu: 60_000 }
/** As much as pipes hold, many times over. */
const LINES = 60_000

for (const tier of TIERS) {
  const missing = missingGuest(tier)
  const declare = (title: string, body: (t: ExecutionContext) => Promise<void>): void => {
    if (missing === undefined) {
      test.serial(`${tier}: ${title}`, async (t) => {
        t.timeout(TEST_TIMEOUT_MS)
        await body(t)
      })
    } else {
      test.serial.skip(`${tier}: ${title} (${missing})`, (t) => t.fail())
    }
  }
  const run = (script: string, more: Partial<GuestRun> = {}): Promise<GuestResult> =>
    runInGuest({ tier, command: ['sh', '-c', script], timeoutMs: TEST_TIMEOUT_MS, ...more })

  declare('status and output arrive whole, the host’s files stay, IPVS is there', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'skein-guest-test-'))
    const [own, shared] = [join(folder, 'own'), join(folder, 'shared')]
    mkdirSync(shared)
    writeFileSync(own, 'host')
    t.teardown(() => rmSync(folder, { recursive: true }))
    const script = `seq ${LINES}; echo "$WORD" >&2; echo guest >${own}; cat ${own} >&2
      echo guest >${shared}/file; ipvsadm -A -f 1 -s rr && ipvsadm -Sn >&2; sleep 1000 & exit 42`
    const { status, stdout, stderr } = await run(script, {
      writable: [shared],
      environment: { WORD: "it's" },
    })
    t.is(status, 42)
    t.is(stdout, Array.from({ length: LINES }, (_unused, index) => `${index + 1}\n`).join(''))
    t.is(stderr, "it's\nguest\n-A -f 1 -s rr\n")
    t.is(readFileSync(own, 'utf8'), 'host')
    t.is(readFileSync(join(shared, 'file'), 'utf8'), 'guest\n')
  })

  declare('a guest that hangs is ended, one that panics is an error', async (t) => {
    const [late, panicked] = await Promise.all([
      t.throwsAsync(run('echo before; sleep 1000', { timeoutMs: HANGING_MS[tier] }), {
        instanceOf: GuestError,
      }),
      t.throwsAsync(run('echo c >/proc/sysrq-trigger; sleep 1000'), { instanceOf: GuestError }),
    ])
    t.true(late.message.includes(`did not end within ${HANGING_MS[tier]} ms`))
    t.regex(late.message, /before/)
    t.regex(panicked.message, /ended without a status/)
  })
}
