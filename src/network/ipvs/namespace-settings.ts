/**
 * Settings of IPVS that belong to the network namespace as a whole, set once at start.
 *
 * - `conntrack`: connections are tracked, so a replica that reaches itself can be masqueraded, and
 *   what nft says of connections holds.
 * - `expire_nodest_conn`, `expire_quiescent_template`: a client of a backend that was deleted is
 *   reset at its next packet, and one of a backend that drains comes to another next time. Without
 *   them its packets vanish.
 * - `conn_reuse_mode`: a client's port that is used again gets a backend at once; before Linux 5.9
 *   mode 1 costs a second, so 0.
 * - `sloppy_tcp`: a connection whose entry is gone goes on at the same backend, with `mh`.
 * - Idle times: 8,100 s for TCP is more than the two hours after which the kernel's keep-alive
 *   probes; 60 s for UDP moves flows soon.
 *
 * Source: `Documentation/networking/ipvs-sysctl.rst`.
 */
import type { Native } from '../netlink/native.ts'
import type { IpvsTimeouts } from '../netlink/ipvs.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { readSysctl, writeSysctl } from '../netlink/sysctl.ts'

/** Idle times of connections. */
export const IPVS_TIMEOUTS: Partial<IpvsTimeouts> = { tcpSeconds: 8_100, udpSeconds: 60 }

/** Below `net/ipv4/vs/`. */
const SETTINGS: Readonly<Record<string, string>> = {
  conntrack: '1',
  expire_nodest_conn: '1',
  expire_quiescent_template: '1',
  sloppy_tcp: '1',
}

/**
 * Sets them; gives the names of those that this kernel does not have. `release` is the kernel's:
 * `6.1.0-56-amd64`. @throws NetlinkError
 */
export async function setNamespaceSettings(
  native: Native,
  options: { readonly release: string; readonly netns?: string },
): Promise<string[]> {
  const { netns, release } = options
  const where = netns === undefined ? {} : { netns }
  const wanted = { ...SETTINGS, conn_reuse_mode: isAtLeast(release, 5, 9) ? '1' : '0' }
  const missing: string[] = []
  for (const [setting, value] of Object.entries(wanted)) {
    const place = { name: `net/ipv4/vs/${setting}`, ...where }
    try {
      if ((await readSysctl(native, place)) !== value) await writeSysctl(native, place, value)
    } catch (error) {
      if (!isNetlinkError(error, 'ENOENT')) throw error
      missing.push(setting)
    }
  }
  return missing
}

function isAtLeast(release: string, major: number, minor: number): boolean {
  const [first = 0, second = 0] = release.split('.', 2).map((part) => Number.parseInt(part, 10))
  return first > major || (first === major && second >= minor)
}
