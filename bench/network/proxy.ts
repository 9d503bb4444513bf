/**
 * Program in the node's namespace: the userspace balancer, as the daemon has it. Argument: the
 * virtual servers and limits as JSON. Tells its parent `ready`, then its memory whenever asked.
 */
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { systemRandom } from '../../src/base/random.ts'
import type { VirtualServer } from '../../src/network/ports.ts'
import { UserspaceBalancer } from '../../src/network/userspace/balancer.ts'

/** What it is told. */
export interface ProxyOrder {
  readonly servers: readonly VirtualServer[]
  readonly connectionsMax: number
}

/** What it answers. */
export interface ProxyState {
  readonly rssBytes: number
  readonly heapBytes: number
  readonly connections: number
}

const order = JSON.parse(process.argv[2] ?? '') as ProxyOrder
const balancer = UserspaceBalancer.create(
  {
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    dialer: { dial: () => Promise.reject(new Error('all backends are local')) },
  },
  { connectionsMax: order.connectionsMax },
)
const faults = await balancer.apply(order.servers)
if (faults.length > 0) throw new Error(JSON.stringify(faults))
process.on('message', () => {
  const { rss: rssBytes, heapUsed: heapBytes } = process.memoryUsage()
  process.send?.({ rssBytes, heapBytes, connections: balancer.connections } satisfies ProxyState)
})
process.on('disconnect', () => process.exit(0))
process.send?.('ready')
