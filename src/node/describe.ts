/**
 * What this node says of itself: read once at start, as it does not change while the daemon runs,
 * but for its addresses.
 */
import { readFileSync } from 'node:fs'
import { arch, availableParallelism, hostname, networkInterfaces, totalmem } from 'node:os'
import type { NetworkInterfaceInfo } from 'node:os'
import type { NodeDescription } from '../store/objects.ts'

/** Docker prints the kernel's names of architectures, not Node's. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'x86_64',
  arm64: 'aarch64',
  arm: 'armv7l',
  ia32: 'i686',
}

const NANO = 1_000_000_000

/** Interfaces of containers and bridges: their addresses stay on this host. */
const INNER_INTERFACE = /^(docker|br-|veth|sk|sv)/

/** Skein's version, from the package's manifest. */
export function engineVersion(): string {
  const manifest: unknown = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  )
  return (manifest as { readonly version: string }).version
}

/** This machine, and how it runs and balances tasks. An empty host name means the machine's. */
export function describeNode(
  parts: Pick<NodeDescription, 'hostname' | 'executor' | 'balancer'>,
): NodeDescription {
  const limit = process.constrainedMemory()
  const memoryBytes = limit > 0 && limit < totalmem() ? limit : totalmem()
  return {
    platform: { os: process.platform, architecture: ARCHITECTURES[arch()] ?? arch() },
    resources: { nanoCpus: availableParallelism() * NANO, memoryBytes },
    engineVersion: engineVersion(),
    engineLabels: {},
    ...parts,
    hostname: parts.hostname === '' ? hostname() : parts.hostname,
  }
}

/** Addresses by which this host speaks to others. */
export function hostAddresses(
  interfaces: Readonly<NodeJS.Dict<NetworkInterfaceInfo[]>> = networkInterfaces(),
): readonly string[] {
  const found = Object.entries(interfaces).flatMap(([name, list = []]) =>
    INNER_INTERFACE.test(name) ? [] : list,
  )
  const usable = found.filter(({ internal, address }) => !internal && !isLinkLocal(address))
  return [...new Set(usable.map(({ address }) => address))].toSorted()
}

/** Valid on one wire only. */
function isLinkLocal(address: string): boolean {
  return address.startsWith('169.254.') || /^fe[89ab]/i.test(address)
}
