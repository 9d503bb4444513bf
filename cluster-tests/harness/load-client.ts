/**
 * Clients in a process of their own, so that they can run in another network namespace: asks
 * `HOST PORT` until it is told to end by SIGTERM, then prints what it went through as JSON.
 */
import { Load } from './load.ts'

const [host = '', port = '', clients = '4'] = process.argv.slice(2)
const load = new Load(host, Number(port), Number(clients))
process.once('SIGTERM', () => void tell())

async function tell(): Promise<void> {
  const report = await load.stop()
  const text = JSON.stringify({ ...report, seen: [...report.seen] })
  process.stdout.write(text, () => process.exit())
}
