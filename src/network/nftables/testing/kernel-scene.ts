/**
 * What tests of the nftables driver share: one kernel stage for a test file, the driver on it, and
 * virtual servers whose backends need not be there. Without root or the addon they are skipped.
 */
import test from 'ava'
import { at } from '../../../base/assert.ts'
import { systemClock } from '../../../base/clock.ts'
import { silentLogger } from '../../../base/log.ts'
import { virtualServer } from '../../conformance-peers.ts'
import { decodeConnection, dumpConnections } from '../../netlink/conntrack.ts'
import type { Connection } from '../../netlink/conntrack.ts'
import { loadNative } from '../../netlink/native.ts'
import type { Native } from '../../netlink/native.ts'
import { NetlinkSocket } from '../../netlink/socket.ts'
import { missing } from '../../netlink/testing/sandbox.ts'
import type { Backend, VirtualServer } from '../../ports.ts'
import { makeKernelStage } from '../../testing/kernel-stage.ts'
import type { KernelStage } from '../../testing/kernel-stage.ts'
import { NftablesBalancer } from '../balancer.ts'

/** Name of the tests' table. */
export const TABLE = 'skein_12345678_lb'
/** The virtual address of `virtualAddress`. */
export const VIP = '10.96.0.10'

/** A test in the kernel, one at a time; skipped where the kernel cannot be had. */
export const kernelTest = missing === '' ? test.serial : test.serial.skip

/** The addon; only where `kernelTest` runs. */
export function loadedNative(): Native {
  const load = loadNative()
  if (load.type === 'absent') throw new Error(load.reason)
  return load.native
}

/** The stage that every test of a file shares, made before the first and removed after the last. */
export function sharedStage(): () => KernelStage {
  const stages: KernelStage[] = []
  if (missing === '') {
    test.before(async () => {
      stages.push(await makeKernelStage(loadedNative(), 2))
    })
    test.after.always(() => stages[0]?.remove())
  } else {
    test.skip(`the nftables driver (${missing})`, (t) => t.pass())
  }
  return () => at(stages, 0)
}

/** The driver in the node's namespace of a stage. */
export function openDriver({ netns }: { readonly netns: string }): Promise<NftablesBalancer> {
  return NftablesBalancer.open(
    { native: loadedNative(), clock: systemClock, log: silentLogger },
    { table: TABLE, netns },
  )
}

/** A backend that needs not be there: its flows can be counted all the same. */
export function ghost(index: number, weight = 1): Backend {
  const address = `10.32.${index % 2}.${20 + index}`
  return { taskId: `task${index}`, nodeId: 'here', local: true, address, port: 0, weight }
}

/** A service's virtual address, every port of it. */
export function virtualAddress(backends: readonly Backend[], scheduler?: 'mh'): VirtualServer {
  const affinity = scheduler === undefined ? {} : { scheduler }
  return { id: 'service/net', protocol: 'any', address: VIP, port: 0, ...affinity, backends }
}

/** A published TCP port, at every address of the node. */
export function serverAt(port: number, backends: readonly Backend[]): VirtualServer {
  return virtualServer(port, backends, 'tcp', '0.0.0.0')
}

/** The connections that a node tracks to the virtual address, of one backend or of all. */
export async function flowsToVip(
  { netns }: { readonly netns: string },
  from: { readonly replySource?: string } = {},
): Promise<Connection[]> {
  const where = { protocol: 'netfilter', netns } as const
  await using socket = await NetlinkSocket.open(loadedNative(), where)
  const messages = await socket.dump(dumpConnections({ family: 'ipv4', ...from }))
  return messages.map(decodeConnection).filter(({ original }) => original.destination === VIP)
}
