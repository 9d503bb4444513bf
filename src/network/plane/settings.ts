/**
 * Kernel settings that the plane needs, as files under `/proc/sys`. Written only when they differ.
 * What does not exist is not needed: `bridge/` comes with `br_netfilter`.
 *
 * - Of the host's own only: forwarding, and that bridged packets pass no IP filter (with it, what a
 *   balancer sends back over the bridge is bridged to an isolated port, and lost). They go back
 *   when the node leaves (`../host-settings.ts`); those of the plane's devices go with the devices.
 * - Reverse path: answers of clients come where no route leads to them. The kernel takes the
 *   stricter of a device's setting and `all`'s, so where the host filters, ours are loose.
 * - A balancer's answers carry addresses of this host on devices where they come from outside:
 *   `accept_local`. A redirect would send tasks to neighbours that they cannot see.
 */
import type { HostSettings } from '../host-settings.ts'

/** For whom. */
export interface SettingsOptions {
  readonly bridge: string
  readonly vxlan: string | undefined
  readonly hasIpv6: boolean
}

/** Makes the settings so; how many were written. @throws NetlinkError, STORAGE_FULL */
export async function ensureSettings(
  settings: HostSettings,
  options: SettingsOptions,
): Promise<number> {
  const written = [
    await settings.set('net/ipv4/ip_forward', '1'),
    await settings.set('net/bridge/bridge-nf-call-iptables', '0'),
  ]
  const filtersAll = (await settings.read('net/ipv4/conf/all/rp_filter')) !== '0'
  for (const device of [options.bridge, options.vxlan]) {
    if (device === undefined) continue
    const of = (name: string): string => `net/ipv4/conf/${device}/${name}`
    written.push(
      await settings.setOwn(of('forwarding'), '1'),
      await settings.setOwn(of('rp_filter'), filtersAll ? '2' : '0'),
      await settings.setOwn(of('accept_local'), '1'),
      await settings.setOwn(of('send_redirects'), '0'),
    )
  }
  // Its tasks it knows, and who answers for another address lies.
  const asks = (family: string): string => `net/${family}/neigh/${options.bridge}/mcast_solicit`
  written.push(await settings.setOwn(asks('ipv4'), '0'))
  // For tasks that an older daemon connected: they look for their neighbours on the wire.
  written.push(await settings.setOwn(`net/ipv4/conf/${options.bridge}/proxy_arp_pvlan`, '1'))
  if (options.hasIpv6) written.push(...(await ensureIpv6(settings, options)))
  return written.filter(Boolean).length
}

/**
 * Forwarding makes a host deaf to router advertisements, unless it says that it wants them even so.
 */
async function ensureIpv6(settings: HostSettings, options: SettingsOptions): Promise<boolean[]> {
  const written = [await settings.set('net/bridge/bridge-nf-call-ip6tables', '0')]
  for (const device of [options.bridge, options.vxlan]) {
    if (device === undefined) continue
    written.push(await settings.setOwn(`net/ipv6/conf/${device}/disable_ipv6`, '0'))
  }
  const asks = `net/ipv6/neigh/${options.bridge}/mcast_solicit`
  written.push(await settings.setOwn(asks, '0'))
  if ((await settings.read('net/ipv6/conf/all/forwarding')) === '1') return written
  for (const device of await settings.devices()) {
    const name = `net/ipv6/conf/${device}/accept_ra`
    if ((await settings.read(name)) === '1') written.push(await settings.set(name, '2'))
  }
  written.push(await settings.set('net/ipv6/conf/all/forwarding', '1'))
  return written
}
