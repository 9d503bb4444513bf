/**
 * What this host's kernel can do for the network, by trying it: which balancer is possible, and why
 * not a better one. Devices and tables are tried in a namespace that ends with the probe, so the
 * host's own sees nothing. For `info` and the doctor.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { errorText } from '../../base/errors.ts'
import { missingSchedulers, schedulerFor } from '../ipvs/schedulers.ts'
import { deleteLink, newLink } from '../netlink/link.ts'
import type { LinkKind } from '../netlink/link.ts'
import type { Native, NativeLoad } from '../netlink/native.ts'
import { fromNative } from '../netlink/netlink-error.ts'
import { NetlinkSocket } from '../netlink/socket.ts'
import type { Protocol } from '../netlink/socket.ts'
import type { Scheduler } from '../ports.ts'
import { findLink } from './devices.ts'
import { planeNames } from './names.ts'
import { PLANE_SETS, elementText } from './plane-elements.ts'
import { guardSkeleton } from './port-guard.ts'
import { runNft } from './run-nft.ts'
import { skeletonOf } from './skeleton.ts'

/** Id whose names the trial has. */
const PROBE_ID = 'probe000'

/** One thing that was tried. */
export interface Capability {
  readonly isThere: boolean
  /** What was found, or why not; for people. */
  readonly text: string
}

/** All that was tried. */
export interface NetworkCapabilities {
  readonly root: Capability
  readonly addon: Capability
  /** The plane's rules and a nat chain, by `nft`. */
  readonly nftables: Capability
  readonly vxlan: Capability
  readonly ipvs: Capability
  /** Schedulers of IPVS that the kernel has not. */
  readonly missingSchedulers: readonly Scheduler[]
  /** Rules for what each task sends, in nftables' family `bridge`. */
  readonly portGuard: Capability
  readonly macvlan: Capability
  readonly ipvlan: Capability
}

/** Which balancer a node can have, and why no better one. */
export interface DriverChoice {
  readonly driver: 'ipvs' | 'nftables' | 'userspace'
  readonly reason: string
}

/** Tries everything. Never rejects for what the host cannot do. */
export async function probeCapabilities(load: NativeLoad): Promise<NetworkCapabilities> {
  const isRoot = process.geteuid?.() === 0
  const root = isRoot ? there('this process is root') : missing('this process is not root')
  if (load.type === 'absent' || !isRoot) {
    const addon = load.type === 'absent' ? missing(load.reason) : there('loaded')
    const untried = missing('not tried: needs root and the addon')
    return { root, addon, ...allOf(untried) }
  }
  const addon = there('loaded')
  try {
    return { root, addon, ...(await inScratch(load.native, probeKernel)) }
  } catch (error) {
    const refused = missing(errorText(error))
    return { root, addon, ...allOf(refused) }
  }
}

/** The best balancer that is possible with what was found, and no better one than `best`. */
export function chooseDriver(
  found: NetworkCapabilities,
  best: DriverChoice['driver'] = 'ipvs',
): DriverChoice {
  if (best === 'userspace') return { driver: best, reason: 'the daemon was told so' }
  for (const needed of [found.root, found.addon, found.nftables]) {
    if (!needed.isThere) return { driver: 'userspace', reason: needed.text }
  }
  if (best === 'nftables') return { driver: best, reason: 'the daemon was told so' }
  if (!found.ipvs.isThere) return { driver: 'nftables', reason: found.ipvs.text }
  return { driver: 'ipvs', reason: found.ipvs.text }
}

type KernelFindings = Omit<NetworkCapabilities, 'root' | 'addon'>

function allOf(one: Capability): KernelFindings {
  const devices = { vxlan: one, macvlan: one, ipvlan: one }
  return { nftables: one, ipvs: one, missingSchedulers: [], portGuard: one, ...devices }
}

async function probeKernel(native: Native, netns: string): Promise<KernelFindings> {
  const { ipvs, missingSchedulers: lacking } = await probeIpvs(native, netns)
  return {
    nftables: await attempt('nftables with nat', () => probeNft(netns)),
    vxlan: await attempt('VXLAN devices', () =>
      withSocket(native, { protocol: 'route', netns }, (socket) =>
        socket.request(newLink({ name: 'probe0' }, { kind: 'vxlan', id: 1, port: 4789 })),
      ),
    ),
    ipvs,
    missingSchedulers: lacking,
    portGuard: await attempt('nftables for bridges', () => probeGuard(netns)),
    macvlan: await attempt('macvlan devices', () =>
      probeChild(native, netns, (parent) => ({ kind: 'macvlan', parent, mode: 'bridge' })),
    ),
    ipvlan: await attempt('ipvlan devices', () =>
      probeChild(native, netns, (parent) => ({ kind: 'ipvlan', parent, mode: 'l2' })),
    ),
  }
}

/** A device on another one. */
async function probeChild(
  native: Native,
  netns: string,
  kindOn: (parent: number) => LinkKind,
): Promise<void> {
  await withSocket(native, { protocol: 'route', netns }, async (socket) => {
    await socket.request(newLink({ name: 'probe1' }, { kind: 'bridge' }))
    try {
      const parent = await findLink(socket, 'probe1')
      if (parent !== undefined) {
        await socket.request(newLink({ name: 'probe2' }, kindOn(parent.index)))
      }
    } finally {
      await socket.request(deleteLink('probe1'))
    }
  })
}

/** Whether there is IPVS, and which of its schedulers there are not. */
async function probeIpvs(
  native: Native,
  netns: string,
): Promise<Pick<KernelFindings, 'ipvs' | 'missingSchedulers'>> {
  let lacking: readonly Scheduler[] = []
  const ipvs = await attempt('IPVS', () =>
    withSocket(native, { protocol: 'generic', netns }, async (socket) => {
      lacking = await missingSchedulers(socket)
    }),
  )
  if (lacking.length === 0) return { ipvs, missingSchedulers: lacking }
  if (schedulerFor('wrr', lacking) === undefined) {
    return { ipvs: missing('no IPVS: none of its schedulers'), missingSchedulers: lacking }
  }
  const text = `${ipvs.text} without ${lacking.join(', ')}, for which others stand in`
  return { ipvs: { ...ipvs, text }, missingSchedulers: lacking }
}

/** The very rules of the guard. */
async function probeGuard(netns: string): Promise<void> {
  await runNft(
    guardSkeleton(planeNames(PROBE_ID)).script(() => ''),
    { netns },
  )
}

/** The very rules that the plane will load, with an element in each set. */
async function probeNft(netns: string): Promise<void> {
  const examples = { address: '192.0.2.1', ether_addr: '02:00:00:00:00:01', mark: '1' } as const
  const skeleton = skeletonOf(planeNames(PROBE_ID), 'ipv4')
  const script = skeleton.script((set) => {
    const type = PLANE_SETS[set]
    const key = type.key.map((field) => examples[field])
    return elementText('data' in type ? { key, data: examples[type.data] } : { key })
  })
  await runNft(script, { netns })
}

async function attempt(subject: string, step: () => Promise<unknown>): Promise<Capability> {
  try {
    await step()
    return there(`the kernel has ${subject}`)
  } catch (error) {
    return missing(`no ${subject}: ${errorText(error)}`)
  }
}

async function withSocket(
  native: Native,
  options: { readonly protocol: Protocol; readonly netns: string },
  use: (socket: NetlinkSocket) => Promise<unknown>,
): Promise<void> {
  await using socket = await NetlinkSocket.open(native, options)
  await use(socket)
}

/** Runs in a namespace of its own. @throws NetlinkError when there can be none */
async function inScratch<T>(
  native: Native,
  use: (native: Native, netns: string) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'skein-probe-'))
  const netns = join(directory, 'netns')
  try {
    try {
      await native.createNetns(netns)
    } catch (error) {
      throw fromNative(error, 'make a network namespace')
    }
    try {
      return await use(native, netns)
    } finally {
      await native.removeNetns(netns)
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function there(text: string): Capability {
  return { isThere: true, text }
}

function missing(text: string): Capability {
  return { isThere: false, text }
}
