/**
 * Guest program, run by ava: the load balancer port's conformance suite against the IPVS driver, in
 * namespaces of a kernel that has IPVS.
 */
import test from 'ava'
import { at } from '../../src/base/assert.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import { testLoadBalancer } from '../../src/network/conformance.ts'
import { IpvsBalancer } from '../../src/network/ipvs/ipvs-balancer.ts'
import { loadNative } from '../../src/network/netlink/native.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import { makeKernelStage } from '../../src/network/testing/kernel-stage.ts'
import type { KernelStage } from '../../src/network/testing/kernel-stage.ts'
import { sh } from './case.ts'
import { marksIn } from './marks.ts'

const IN_IPV6 = ', in IPv6'
const stages: KernelStage[] = []
const stage = (): KernelStage => at(stages, 0)

function native(): Native {
  const load = loadNative()
  if (load.type === 'absent') throw new Error(load.reason)
  return load.native
}

async function open(): Promise<IpvsBalancer> {
  const { netns } = stage()
  const marks = await marksIn(native(), netns)
  const components = { native: native(), clock: systemClock, log: silentLogger, marks }
  return IpvsBalancer.open(components, { netns })
}

test.before(async () => {
  // A module of some kernels, which nothing asks for before its settings are written.
  sh('modprobe -q ipv6 || true')
  stages.push(await makeKernelStage(native(), 2))
})
testLoadBalancer(test, open, { driver: 'kernel', stage })
testLoadBalancer(test, open, { driver: 'kernel', stage: () => stage().ipv6, suffix: IN_IPV6 })
