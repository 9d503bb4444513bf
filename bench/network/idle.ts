/**
 * Memory of the userspace proxy with many idle connections, and whether it keeps to its limit: some
 * more clients come than it takes, and those are reset.
 *
 * `node bench/network/idle.ts [--connections 10000]`
 */
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { NODE_ADDRESS } from '../../src/network/testing/kernel-stage.ts'
import { markdownTable } from '../statistics.ts'
import type { CrowdState } from './crowd.ts'
import { Proxy, makeSite, publishedPort, startIn, stop } from './site.ts'
import type { Site } from './site.ts'

const PORT = 7_001
/** Clients beyond the limit. */
const TOO_MANY = 200
/** After the last change, until memory is read. */
const REST_MS = 3_000
const MIB = 1_024 * 1_024

interface Row {
  readonly what: string
  readonly rssBytes: number
  readonly heapBytes: number
  readonly connections: number
}

/** A process has two files a connection, and some of its own. */
async function measure(site: Site, connections: number): Promise<readonly Row[]> {
  const servers = [publishedPort(PORT)]
  const proxy = await Proxy.start(site.stage, { servers, connectionsMax: connections })
  const rows: Row[] = []
  const read = async (what: string): Promise<void> => {
    await sleep(REST_MS)
    rows.push({ what, ...(await proxy.state()) })
  }
  await read('before')
  const program = join(import.meta.dirname, 'crowd.ts')
  const count = connections + TOO_MANY
  const words = [process.execPath, program, NODE_ADDRESS, String(PORT), String(count)]
  const crowd = startIn(site.stage.clientNetns, words)
  try {
    const [opened] = (await once(crowd, 'message')) as [CrowdState]
    check(opened, { answered: connections, reset: TOO_MANY })
    await read('idle')
    const answer = once(crowd, 'message')
    crowd.send('again')
    const [again] = (await answer) as [CrowdState]
    check(again, { answered: connections, reset: 0 })
    await read('idle, after one more request on each')
  } finally {
    await stop(crowd)
  }
  await read('closed')
  await proxy.stop()
  return rows
}

function check(state: CrowdState, expected: CrowdState): void {
  if (state.answered === expected.answered && state.reset === expected.reset) return
  throw new Error(`clients: ${JSON.stringify(state)}, not ${JSON.stringify(expected)}`)
}

function report(rows: readonly Row[]): void {
  const [first] = rows
  const lines = rows.map(({ what, rssBytes, heapBytes, connections }) => [
    what,
    String(connections),
    (rssBytes / MIB).toFixed(1),
    (heapBytes / MIB).toFixed(1),
    connections === 0 ? '' : ((rssBytes - (first?.rssBytes ?? 0)) / 1_024 / connections).toFixed(1),
  ])
  const heading = ['proxy', 'connections', 'RSS, MiB', 'JS heap, MiB', 'KiB a connection']
  process.stdout.write(`${markdownTable([heading, ...lines])}\n`)
}

const { values } = parseArgs({ options: { connections: { type: 'string', default: '9900' } } })
const site = await makeSite()
try {
  report(await measure(site, Number(values.connections)))
} finally {
  await site.remove()
}
