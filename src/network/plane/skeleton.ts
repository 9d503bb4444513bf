/**
 * The plane's nftables rules as text: static, the same for every state of the store. What changes
 * are elements of its sets and maps (`plane-elements.ts`). One table a family.
 *
 * Everything is decided where a packet enters the node, before anyone rewrites its destination, so
 * it holds for every balancer: a packet from a task goes to members of the task's networks, to the
 * resolver, or outside; nothing else enters the cluster's ranges but answers. Behind the balancers
 * stands one more rule: a packet for a virtual address that none of them took is refused, or every
 * port of this host would be open at every virtual address (each is local here). Pings of members
 * the node answers itself: whoever tries a name with `ping` must not think that it is dead.
 *
 * A task's networks are one number, its profile; it is in the packet's mark while it is looked up.
 * Packets of a connection's first direction are looked up each time: an address that is used again
 * inherits no one's connections. Answers follow their connection.
 *
 * Symmetric return: a connection from outside that came over the tunnel carries the mark of the
 * node it came through, by that node's MAC; its answers get the mark and are routed back there.
 * What comes from another node itself, or from its containers in its name, is masqueraded: there,
 * its own address would be taken for a forgery on the way in, and for local on the way back.
 *
 * So a replica sees the client's own address, whichever node it asked. A client may ask two nodes
 * from one port (it chooses ports for each node apart), and both may choose the same replica: two
 * connections with the same four numbers. Connections are therefore told apart by the node that
 * they came through, a zone of tracking for their first direction, and where their answers would
 * be mixed up the kernel gives the later one another source port, as masquerading does.
 *
 * What enters the tunnel loses its mark: the outer packet inherits it, and IPVS, which takes marked
 * packets on their way out of the node, would balance that one, too, into the tunnel again.
 */
import { createHash } from 'node:crypto'
import type { NftTable } from '../netlink/nftables.ts'
import type { PlaneNames } from './names.ts'
import { PLANE_SETS } from './plane-elements.ts'
import type { PlaneFamily, SetName, SetType } from './plane-elements.ts'

/**
 * The last two bytes of the sender's MAC, which is a hash of the node's id: where two nodes share
 * them, their connections are as if they had come through one.
 */
const PEER_MAC_END = '@ll,80,16'

/** Digits of the hash that tells one text of rules from another. */
const VERSION_DIGITS = 12

/** Rules that the kernel has or should have. */
export interface Skeleton<Name extends string = SetName> {
  readonly table: NftTable
  readonly sets: Readonly<Record<Name, SetType>>
  /** Name of an empty set in the table: there when these very rules are. */
  readonly versionSet: string
  /** Script that replaces the table; `elements` gives the text of a set's elements. */
  readonly script: (elements: (set: Name) => string) => string
}

/** The rules of a node's table in a family. */
export function skeletonOf(names: PlaneNames, family: PlaneFamily): Skeleton {
  const { addressType } = WORDS[family]
  const chains = chainsOf(names, WORDS[family])
  return skeletonFrom({ family, name: names.table }, { sets: PLANE_SETS, chains, addressType })
}

/** How nft calls a family. */
const FAMILY_WORDS: Readonly<Record<string, string>> = { ipv4: 'ip', ipv6: 'ip6', bridge: 'bridge' }

/** A table from its sets and the text of its chains. */
export function skeletonFrom<Name extends string>(
  nftTable: NftTable,
  rules: {
    readonly sets: Readonly<Record<Name, SetType>>
    readonly chains: string
    /** What a field `address` is; default: there is none. */
    readonly addressType?: string
  },
): Skeleton<Name> {
  const { sets: types, chains, addressType = '' } = rules
  const table = `${FAMILY_WORDS[nftTable.family] ?? ''} ${nftTable.name}`
  const names = Object.keys(types) as Name[]
  const textOf = (name: Name, elements = ''): string =>
    setText({ name, type: types[name], addressType }, elements)
  const text = [...names.map((name) => textOf(name)), chains].join('\n')
  const digest = createHash('sha256').update(text).digest('hex')
  const versionSet = `version_${digest.slice(0, VERSION_DIGITS)}`
  const script = (elements: (set: Name) => string): string => {
    const sets = names.map((name) => textOf(name, elements(name)))
    return `add table ${table}
delete table ${table}
table ${table} {
  set ${versionSet} { type mark; }
${sets.join('\n')}
${chains}
}
`
  }
  return { table: nftTable, sets: types, versionSet, script }
}

function setText(
  set: { readonly name: string; readonly type: SetType; readonly addressType: string },
  elements: string,
): string {
  const { name, type, addressType } = set
  const field = (one: string): string => (one === 'address' ? addressType : one)
  const key = type.key.map(field).join(' . ')
  const data = type.data === undefined ? '' : ` : ${type.data}`
  const flags = type.isInterval === true ? ' flags interval;' : ''
  const list = elements === '' ? '' : ` elements = { ${elements} };`
  return `  ${type.data === undefined ? 'set' : 'map'} ${name} { type ${key}${data};${flags}${list} }`
}

interface Words {
  readonly ip: string
  readonly addressType: string
  readonly icmp: string
  readonly refusal: string
  readonly redirect: string
  readonly ping: string
  /** Rules for what keeps neighbours known. */
  readonly neighbours: string
  /** Rules against this node's own address on the wire. */
  readonly wire: string
}

const WORDS: Readonly<Record<PlaneFamily, Words>> = {
  ipv4: {
    ip: 'ip',
    addressType: 'ipv4_addr',
    icmp: 'icmp',
    refusal: 'icmp type admin-prohibited',
    redirect: 'redirect',
    ping: 'echo-request',
    neighbours: '',
    wire: '',
  },
  ipv6: {
    ip: 'ip6',
    addressType: 'ipv6_addr',
    icmp: 'icmpv6',
    refusal: 'icmpv6 type admin-prohibited',
    redirect: 'nd-redirect',
    ping: 'echo-request',
    neighbours: 'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept',
    wire: 'ip6 daddr fe80::/10 goto refuse',
  },
}

function chainsOf(names: PlaneNames, words: Words): string {
  const { bridge, vxlan } = names
  const { ip, icmp, ping } = words
  return `  chain refuse {
    ct state invalid drop
    meta l4proto tcp reject with tcp reset
    reject with ${words.refusal}
  }
  chain from_task {
    ${ip} daddr @gateways meta l4proto { tcp, udp } th dport 53 accept
    ${ip} daddr @gateways ${icmp} type ${ping} accept
    meta mark set 0
    meta mark set ${ip} saddr map @profiles
    meta mark . ${ip} daddr @members meta mark set 0 accept
    meta mark set 0
    ${words.wire}
    ${ip} daddr @inside goto refuse
    ${ip} saddr @insiders goto refuse
  }
  chain from_peer {
    ${ip} daddr @virtual goto refuse
    ${ip} saddr != @inside ct mark set ether saddr map @peers
  }
  chain spoofed {
    type filter hook prerouting priority raw; policy accept;
    iifname != "${bridge}" accept
    ${words.neighbours}
    ${ip} saddr . ether saddr != @sources drop
  }
  chain apart {
    type filter hook prerouting priority raw; policy accept;
    iifname "${vxlan}" ct original zone set ${PEER_MAC_END}
  }
  chain isolate {
    type filter hook prerouting priority mangle; policy accept;
    ct direction reply goto answer
    ct state related accept
    ${words.neighbours}
    iifname "lo" accept
    iifname "${bridge}" goto from_task
    iifname "${vxlan}" goto from_peer
    ${ip} daddr @inside goto refuse
  }
  chain answer {
    iifname { "${bridge}", "${vxlan}" } ct mark != 0 meta mark set ct mark
  }
  chain unserved {
    type filter hook input priority 200; policy accept;
    iifname "${bridge}" ${icmp} type ${ping} accept
    ${ip} daddr @virtual goto refuse
  }
  chain redirects {
    type filter hook output priority filter; policy accept;
    oifname "${bridge}" ${icmp} type ${words.redirect} drop
  }
${wayOut(names, words)}`
}

/** Chains behind the last routing decision. */
function wayOut({ bridge, vxlan }: PlaneNames, { ip }: Words): string {
  return `  chain tunnel {
    type filter hook postrouting priority mangle; policy accept;
    oifname "${vxlan}" meta mark set 0
  }
  chain leave {
    type nat hook postrouting priority srcnat; policy accept;
    ${ip} saddr . ${ip} daddr @selves masquerade
    oifname "${vxlan}" ${ip} saddr @nodes masquerade
    oifname { "${bridge}", "${vxlan}", "lo" } accept
    ${ip} saddr @subnet ${ip} daddr != @inside masquerade
  }`
}
