/**
 * Clients in a process of their own, so that they can run in another network namespace: asks
 * `HOST PORT`, with the options that stand behind as JSON, says so in a line, and
 * when it is told to end by SIGTERM prints what it went through as JSON. {@link startLoad} starts it.
 */
import { Load } from './load.ts'
import type { LoadOptions } from './load.ts'

const [host = '', port = '', options = '{}'] = process.argv.slice(2)
const load = new Load(host, Number(port), JSON.parse(options) as LoadOptions)
process.once('SIGTERM', () => void tell())
process.stdout.write('asking\n')

async function tell(): Promise<void> {
  const text = JSON.stringify(await load.stop())
  process.stdout.write(text, () => process.exit())
}
