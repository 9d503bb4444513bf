/**
 * Kernel settings that the plane needs, as files under `/proc/sys`. Written only when they differ.
 * What does not exist is not needed: `vs/` comes with IPVS, `bridge/` with `br_netfilter`.
 *
 * - Of the host's own only: forwarding, and that bridged packets pass no IP filter (with it, what a
 *   balancer sends back over the bridge is bridged to an isolated port, and lost).
 * - Reverse path: answers of clients come where no route leads to them. The kernel takes the
 *   stricter of a device's setting and `all`'s, so where the host filters, ours are loose.
 * - A balancer's answers carry addresses of this host on devices where they come from outside:
 *   `accept_local`. A redirect would send tasks to neighbours that they cannot see.
 */
import type { Native } from '../netlink/native.ts'
import { isNetlinkError } from '../netlink/netlink-error.ts'
import { readSysctl, writeSysctl } from '../netlink/sysctl.ts'

/** Where, and for whom. */
export interface SettingsOptions {
  readonly netns?: string
  readonly bridge: string
  readonly vxlan: string | undefined
  readonly hasIpv6: boolean
  /** Whether this node balances by IPVS: its settings are for all of this namespace. */
  readonly ipvs: boolean
}

/** For IPVS: each packet tracked; backends that are gone refuse, and nothing sticks to them. */
const IPVS_SETTINGS: Readonly<Record<string, string>> = {
  conntrack: '1',
  expire_nodest_conn: '1',
  expire_quiescent_template: '1',
  conn_reuse_mode: '1',
  sloppy_tcp: '1',
}

/** Makes the settings so; how many were written. @throws NetlinkError */
export async function ensureSettings(native: Native, options: SettingsOptions): Promise<number> {
  const settings = new Settings(native, options.netns)
  await settings.set('net/ipv4/ip_forward', '1')
  await settings.setIfThere('net/bridge/bridge-nf-call-iptables', '0')
  const filtersAll = (await settings.get('net/ipv4/conf/all/rp_filter')) !== '0'
  for (const device of [options.bridge, options.vxlan]) {
    if (device === undefined) continue
    const of = (name: string): string => `net/ipv4/conf/${device}/${name}`
    await settings.set(of('forwarding'), '1')
    await settings.set(of('rp_filter'), filtersAll ? '2' : '0')
    await settings.set(of('accept_local'), '1')
    await settings.set(of('send_redirects'), '0')
  }
  // For tasks that an older daemon connected: they look for their neighbours on the wire.
  await settings.set(`net/ipv4/conf/${options.bridge}/proxy_arp_pvlan`, '1')
  if (options.hasIpv6) await ensureIpv6(settings, options)
  if (!options.ipvs) return settings.written
  for (const [name, value] of Object.entries(IPVS_SETTINGS)) {
    await settings.setIfThere(`net/ipv4/vs/${name}`, value)
  }
  return settings.written
}

/**
 * Forwarding makes a host deaf to router advertisements, unless it says that it wants them even so.
 */
async function ensureIpv6(settings: Settings, options: SettingsOptions): Promise<void> {
  await settings.setIfThere('net/bridge/bridge-nf-call-ip6tables', '0')
  for (const device of [options.bridge, options.vxlan]) {
    if (device !== undefined) await settings.set(`net/ipv6/conf/${device}/disable_ipv6`, '0')
  }
  if ((await settings.get('net/ipv6/conf/all/forwarding')) === '1') return
  for (const device of await settings.ipv6Devices()) {
    const name = `net/ipv6/conf/${device}/accept_ra`
    if ((await settings.get(name)) === '1') await settings.set(name, '2')
  }
  await settings.set('net/ipv6/conf/all/forwarding', '1')
}

/** Settings of a namespace. */
class Settings {
  readonly #native: Native
  readonly #netns: string | undefined
  written = 0

  constructor(native: Native, netns: string | undefined) {
    this.#native = native
    this.#netns = netns
  }

  get(name: string): Promise<string> {
    return readSysctl(this.#native, this.#place(name))
  }

  async set(name: string, value: string): Promise<void> {
    if ((await this.get(name)) === value) return
    await writeSysctl(this.#native, this.#place(name), value)
    this.written += 1
  }

  async setIfThere(name: string, value: string): Promise<void> {
    try {
      await this.set(name, value)
    } catch (error) {
      if (!isNetlinkError(error, 'ENOENT')) throw error
    }
  }

  /** Devices that have IPv6 settings: the names in `/proc/net/if_inet6`. */
  async ipv6Devices(): Promise<string[]> {
    const bytes = await this.#native.readFile(this.#netns ?? null, '/proc/thread-self/net/if_inet6')
    const lines = new TextDecoder().decode(bytes).trim().split('\n')
    return [...new Set(lines.flatMap((line) => line.trim().split(/\s+/)[5] ?? []))]
  }

  #place(name: string): { readonly name: string; readonly netns?: string } {
    return this.#netns === undefined ? { name } : { name, netns: this.#netns }
  }
}
