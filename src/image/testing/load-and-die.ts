/**
 * Loads an archive and is killed while its layer is being unpacked: `load-and-die.ts DIRECTORY
 * ARCHIVE`. For the crash test.
 */
import { createReadStream, existsSync, readdirSync } from 'node:fs'
import { systemClock } from '../../base/clock.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import { ImageStore } from '../image-store.ts'

const [directory = '', archive = ''] = process.argv.slice(2)
const components = { clock: systemClock, log: silentLogger, random: systemRandom }
const store = await ImageStore.open(components, { directory })

function dieHalfWay(): void {
  const layers = `${directory}/layers`
  const half = readdirSync(layers).find((name) => name.startsWith('new-'))
  if (half !== undefined && existsSync(`${layers}/${half}/diff/large`)) {
    process.kill(process.pid, 'SIGKILL')
  }
  systemClock.after(1, dieHalfWay)
}

dieHalfWay()
for await (const line of store.load(createReadStream(archive))) process.stdout.write(`${line}\n`)
process.exit(0)
