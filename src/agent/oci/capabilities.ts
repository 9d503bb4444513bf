/**
 * Linux capabilities of a container: Docker's default fourteen, plus what the spec adds, minus what
 * it drops. They go into the bounding, effective and permitted sets, never into the inheritable or
 * ambient ones (CVE-2022-29162).
 */
import { SwarmError } from '../../base/errors.ts'

/** What a container may do unless its spec says otherwise. */
export const DEFAULT_CAPABILITIES: readonly string[] = [
  'CAP_AUDIT_WRITE',
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_MKNOD',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_RAW',
  'CAP_SETFCAP',
  'CAP_SETGID',
  'CAP_SETPCAP',
  'CAP_SETUID',
  'CAP_SYS_CHROOT',
]

/** All capabilities by bit number, as in `linux/capability.h` of 5.9 and later. */
export const ALL_CAPABILITIES: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
]

/**
 * The capabilities of a container, sorted. `available` are those that this process may give; asking
 * for more would make the runtime fail, so others are left out.
 * @throws INVALID_ARGUMENT for a name that Linux does not have
 */
export function containerCapabilities(
  add: readonly string[],
  drop: readonly string[],
  available: ReadonlySet<string>,
): string[] {
  const result = new Set(drop.some(isAll) ? [] : DEFAULT_CAPABILITIES)
  for (const name of add) {
    for (const capability of isAll(name) ? ALL_CAPABILITIES : [normalise(name)]) {
      result.add(capability)
    }
  }
  for (const name of drop) if (!isAll(name)) result.delete(normalise(name))
  return [...result].filter((capability) => available.has(capability)).toSorted()
}

/** The capabilities in a hexadecimal mask of `/proc/<pid>/status`. */
export function decodeCapabilityMask(hexadecimal: string): ReadonlySet<string> {
  const mask = BigInt(`0x${hexadecimal}`)
  return new Set(ALL_CAPABILITIES.filter((_, bit) => (mask >> BigInt(bit)) & 1n))
}

function isAll(name: string): boolean {
  return /^(CAP_)?ALL$/i.test(name)
}

function normalise(name: string): string {
  const upper = name.toUpperCase()
  const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (ALL_CAPABILITIES.includes(full)) return full
  throw new SwarmError('INVALID_ARGUMENT', `capability "${name}": no such capability`)
}
