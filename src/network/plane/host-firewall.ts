/**
 * Firewalls of the host that stop what the plane needs. Rules of ours cannot overrule them: a
 * packet must pass every chain of its hook, and what is not ours stays as it is. So it is said.
 * Docker beside us, or ufw, has such a chain for what is forwarded.
 *
 * Seen are base chains whose policy is `drop`, in tables in which no rule names the plane's devices
 * (its bridge, or all as `sk*`): who names them has thought of them. Rules of `iptables-legacy` are
 * not seen, nor rules at the end of a chain that stop everything.
 */
import { dumpChains, decodeBaseChain } from '../netlink/nft-chain-reader.ts'
import type { BaseChain } from '../netlink/nft-chain-reader.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import { readNft } from './run-nft.ts'

/** What stops when packets of a hook are dropped. */
const LOST = {
  forward: 'containers reach nothing, and published ports no container of this node',
  input: 'containers have no names, and other nodes no tunnel',
} as const

/** What would help. */
const CURE = {
  forward: 'accept what is forwarded from and to sk* and sv*',
  input: 'accept what comes in from sk* and sv*, UDP 4789 and TCP 2377 of other nodes',
} as const

/** Where to look, and for whose devices. */
export interface HostFirewallOptions {
  /** The bridge; absent: of any node. */
  readonly bridge?: string
  readonly hasIpv6: boolean
  readonly netns?: string
}

/** What stands in the way, a sentence each. @throws NetlinkError, UNAVAILABLE, RUNTIME_FAILED */
export async function hostFirewallFaults(
  socket: NetlinkSocket,
  options: HostFirewallOptions,
): Promise<readonly string[]> {
  const chains = (await socket.dump(dumpChains())).flatMap((one) => decodeBaseChain(one) ?? [])
  const faults: string[] = []
  for (const chain of chains) {
    const { hook, policy, table } = chain
    if (policy !== 'drop' || (hook !== 'forward' && hook !== 'input')) continue
    if (table.family !== 'inet' && table.family !== 'ipv4' && !isIpv6(chain, options)) continue
    const family = table.family === 'ipv4' ? 'ip' : table.family === 'ipv6' ? 'ip6' : 'inet'
    const words = ['list', 'table', family, table.name]
    if (namesDevice(await readNft(words, options), options.bridge)) continue
    const where = `chain ${chain.name} of the host's table ${family} ${table.name}`
    faults.push(`${where} drops by default: ${LOST[hook]}; ${CURE[hook]}`)
  }
  return faults
}

function isIpv6({ table }: BaseChain, { hasIpv6 }: HostFirewallOptions): boolean {
  return hasIpv6 && table.family === 'ipv6'
}

function namesDevice(rules: string, bridge: string | undefined): boolean {
  if (/"sk\*"/.test(rules)) return true
  return bridge === undefined ? /"sk[0-9a-z]{8}"/.test(rules) : rules.includes(`"${bridge}"`)
}
