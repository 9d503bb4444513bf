/** Firewalls of the host that would stop what containers send and are sent. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { loadNative } from '../../network/netlink/native.ts'
import { NetlinkSocket } from '../../network/netlink/socket.ts'
import { hostFirewallFaults } from '../../network/plane/host-firewall.ts'
import { pass, warn } from './finding.ts'
import type { Finding } from './finding.ts'

const CHECK = 'host firewall'

/** Where to look. */
export interface FirewallPlaces {
  readonly proc: string
  /** Path of a network namespace; absent: this process's. */
  readonly netns?: string
}

/** One finding for each chain that stands in the way. @throws NetlinkError, SwarmError */
export async function checkHostFirewall({
  proc,
  netns,
}: FirewallPlaces): Promise<readonly Finding[]> {
  const load = loadNative()
  if (load.type === 'absent') {
    return [warn(CHECK, `could not look: ${load.reason}`, 'nft list ruleset shows it')]
  }
  const place = netns === undefined ? {} : { netns }
  await using socket = await NetlinkSocket.open(load.native, { protocol: 'netfilter', ...place })
  const faults = await hostFirewallFaults(socket, { hasIpv6: true, ...place })
  const findings = faults.map((fault) => {
    const [message = fault, ...advice] = fault.split('; ')
    return warn(CHECK, message, advice.join('; '))
  })
  const legacy = await readFile(join(proc, 'net/ip_tables_names'), 'utf8').catch(() => '')
  if (legacy.split('\n').includes('filter')) {
    const advice = 'iptables-legacy -S: its FORWARD and INPUT must let sk+ and sv+ pass'
    findings.push(warn(CHECK, 'iptables-legacy has rules, which are not examined', advice))
  }
  return findings.length > 0 ? findings : [pass(CHECK, 'none that drops by default')]
}
