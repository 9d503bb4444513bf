/**
 * Settings under `/proc/sys` in any network namespace: those of `net/` belong to the namespace of
 * who reads or writes, so a short-lived thread of the addon enters it.
 */
import type { Native } from './native.ts'
import { fromNative } from './netlink-error.ts'

/** Where a setting is. */
export interface SysctlPlace {
  /** Below `/proc/sys`: `net/ipv4/ip_forward`. */
  readonly name: string
  /** Path of the network namespace; without one this process's. */
  readonly netns?: string
}

/** The value as text, without the line's end. @throws NetlinkError ENOENT when there is none */
export async function readSysctl(native: Native, place: SysctlPlace): Promise<string> {
  try {
    const bytes = await native.readFile(place.netns ?? null, `/proc/sys/${place.name}`)
    return new TextDecoder().decode(bytes).trimEnd()
  } catch (error) {
    throw fromNative(error, `read sysctl "${place.name}"`)
  }
}

/** Sets a value. @throws NetlinkError ENOENT when there is no such setting */
export async function writeSysctl(
  native: Native,
  place: SysctlPlace,
  value: string,
): Promise<void> {
  try {
    const bytes = new TextEncoder().encode(value)
    await native.writeFile(place.netns ?? null, `/proc/sys/${place.name}`, bytes)
  } catch (error) {
    throw fromNative(error, `write sysctl "${place.name}"`)
  }
}
