/**
 * `node cluster-tests/raft-crash/run.ts --rounds 200 --seed 7 --log level`: kills members of a
 * raft-ts group and checks that nothing acknowledged is lost. Ends with 1 when something is wrong.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { runCampaign } from './campaign.ts'
import { ownHost } from './own-host.ts'

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '200' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    log: { type: 'string', default: 'level' },
    transport: { type: 'string', default: 'tcp' },
    directory: { type: 'string' },
  },
})
const say = (text: string): void => void process.stdout.write(`${text}\n`)
const seed = Number(values.seed)
const rounds = Number(values.rounds)
const log = values.log === 'file' ? 'file' : 'level'
const transport = values.transport === 'mesh' ? 'mesh' : 'tcp'
const directory = values.directory ?? mkdtempSync(join(tmpdir(), 'raft-crash-'))

say(`raft-crash --rounds ${rounds} --seed ${seed} --log ${log} --transport ${transport}`)
say(`in ${directory}`)
const report = await runCampaign({
  ...{ rounds, seed, log, transport, directory, say },
  host: ownHost(),
})
const { violations, ...figures } = report
for (const [name, value] of Object.entries(figures)) say(`${name}: ${JSON.stringify(value)}`)
for (const violation of violations) say(`WRONG: ${violation}`)
say(violations.length === 0 ? 'nothing acknowledged was lost' : `${violations.length} violations`)
process.exitCode = violations.length === 0 ? 0 : 1
