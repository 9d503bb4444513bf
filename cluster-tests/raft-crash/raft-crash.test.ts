/**
 * raft-ts under SIGKILL and SIGSTOP: real processes, disks and sockets. `run.ts` is the long form.
 * The seed of a failure is in its message; the moment of each blow is not reproducible.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { runCampaign } from './campaign.ts'
import { ownHost } from './own-host.ts'

const ROUNDS = 15

const SETTINGS = [
  { transport: 'tcp', log: 'level' },
  { transport: 'tcp', log: 'file' },
  { transport: 'mesh', log: 'level' },
] as const

for (const { transport, log } of SETTINGS) {
  const name = `${transport}, ${log} log`
  test.serial(`no acknowledged write is lost when processes are killed (${name})`, async (t) => {
    t.timeout(240_000)
    const seed = Date.now() % 1_000_000
    const directory = mkdtempSync(join(tmpdir(), `raft-crash-${transport}-${log}-`))
    t.log(`seed ${seed}`)
    const report = await runCampaign({
      ...{ rounds: ROUNDS, seed, log, transport, directory },
      host: ownHost(),
    })
    t.log(JSON.stringify(report))
    t.deepEqual(report.violations, [], `seed ${seed}, see ${directory}`)
    t.true(report.kills >= ROUNDS)
    t.true(report.acknowledgedWrites > 0 && report.reads > 0 && report.elections > 1)
  })
}
