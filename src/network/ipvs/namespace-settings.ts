/**
 * Settings of IPVS that belong to the network namespace as a whole, set once at start, and put back
 * when the node leaves (`../host-settings.ts`).
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
import type { HostSettings } from '../host-settings.ts'
import { IPVS_TIMEOUTS_NAME } from '../setting-access.ts'

/** Idle times of connections, seconds. */
export const IPVS_TIMEOUTS = { tcpSeconds: 8_100, udpSeconds: 60 } as const

/** Below `net/ipv4/vs/`. */
const SETTINGS: Readonly<Record<string, string>> = {
  conntrack: '1',
  expire_nodest_conn: '1',
  expire_quiescent_template: '1',
  sloppy_tcp: '1',
}

/**
 * Sets them; gives the names of those that this kernel does not have. `release` is the kernel's:
 * `6.1.0-56-amd64`. @throws NetlinkError, STORAGE_FULL
 */
export async function setNamespaceSettings(
  settings: HostSettings,
  options: { readonly release: string },
): Promise<string[]> {
  const wanted = { ...SETTINGS, conn_reuse_mode: isAtLeast(options.release, 5, 9) ? '1' : '0' }
  const missing: string[] = []
  for (const [setting, value] of Object.entries(wanted)) {
    const name = `net/ipv4/vs/${setting}`
    if ((await settings.read(name)) === undefined) missing.push(setting)
    else await settings.set(name, value)
  }
  const { tcpSeconds, udpSeconds } = IPVS_TIMEOUTS
  const [, tcpFinSeconds = '0'] = (await settings.read(IPVS_TIMEOUTS_NAME))?.split(' ') ?? []
  await settings.set(IPVS_TIMEOUTS_NAME, `${tcpSeconds} ${tcpFinSeconds} ${udpSeconds}`)
  return missing
}

function isAtLeast(release: string, major: number, minor: number): boolean {
  const [first = 0, second = 0] = release.split('.', 2).map((part) => Number.parseInt(part, 10))
  return first > major || (first === major && second >= minor)
}
