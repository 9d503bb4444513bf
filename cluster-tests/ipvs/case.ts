/** What a case of the IPVS suite is, and what it gets. Cases run inside a guest, one after another. */
import { execFileSync } from 'node:child_process'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/log.ts'
import type { Native } from '../../src/network/netlink/native.ts'
import { IpvsBalancer } from '../../src/network/ipvs/ipvs-balancer.ts'
import type { IpvsOptions } from '../../src/network/ipvs/ipvs-balancer.ts'
import { KernelTable } from '../../src/network/ipvs/kernel-table.ts'
import type { PacketMarks } from '../../src/network/ipvs/packet-marks.ts'
import { TimeSlices } from '../../src/network/time-slices.ts'

/** What a case works with. */
export interface CaseContext {
  readonly native: Native
  /** Shown with the result. */
  readonly note: (text: string) => void
}

/** A behaviour to prove in a kernel that has IPVS. */
export interface Case {
  readonly title: string
  readonly run: (context: CaseContext) => Promise<void>
}

/** A service table needs no marks to be programmed. */
export const NO_MARKS: PacketMarks = {
  apply: () => Promise.resolve(),
  change: () => Promise.resolve(),
  check: () => Promise.resolve(false),
  remove: () => Promise.resolve(),
  close: () => undefined,
}

/** Runs a program and gives its output. */
export function sh(command: string): string {
  return execFileSync('sh', ['-c', command], { encoding: 'utf8' })
}

/** A fresh network namespace; its path. Named ones live until the guest ends. */
let namespaces = 0
export function freshNamespace(): string {
  namespaces += 1
  const name = `t${namespaces}`
  sh(`ip netns add ${name} && ip netns exec ${name} ip link set lo up`)
  return `/run/netns/${name}`
}

/** A program's output inside a namespace. */
export function within(netns: string, command: string): string {
  return execFileSync('nsenter', [`--net=${netns}`, 'sh', '-c', command], { encoding: 'utf8' })
}

/** The kernel's table of a namespace. */
export function openTable(native: Native, netns: string): Promise<KernelTable> {
  return KernelTable.open({ native, slices: new TimeSlices(systemClock) }, { netns })
}

/** A driver without marks in a namespace. */
export function openBalancer(
  native: Native,
  netns: string,
  options: IpvsOptions = {},
): Promise<IpvsBalancer> {
  const components = { native, clock: systemClock, log: silentLogger, marks: NO_MARKS }
  return IpvsBalancer.open(components, { netns, ...options })
}
