/**
 * The rules of the balancer's own nft table, which never change; what changes are elements of its
 * maps. Pure: text for `nft -f -`.
 *
 *     prerouting, output (nat, dstnat) → balance
 *     balance:  vip_servers    virtual address            → goto chain
 *               bound_servers  address, protocol, port    → goto chain
 *               port_servers   protocol, port, if the address is this node's, loopback apart
 *     vip_spread_10:  DNAT to vip_slots  { virtual address . random number below 10 }
 *     vip_hash_251:   DNAT to vip_slots  { virtual address . hash of the client below 251 }
 *     refuse:         TCP reset, or port unreachable
 *
 * IPv6 has a table of its own with the same rules in its words. A client of either family meets the
 * same replicas, but not the same one: the addresses that are hashed differ.
 *
 * There is a chain for every number of slots, because a rule's modulus is fixed: a server goes from
 * ten slots to eleven in the same transaction that writes the eleventh. A packet that meets the
 * commit between both finds slot 0. The hash has the same seed everywhere; nodes of one byte order
 * choose alike. A set named by a digest of this text tells whether a table is of this version.
 */
import { hash } from 'node:crypto'
import { HASH_SEED, HASH_SLOTS } from '../affinity.ts'
import type { AddressFamily } from '../ports.ts'
import { EXACT_SLOTS_MAX, WIDE_SLOTS } from './slots.ts'

/**
 * What a server answers on: a virtual address with every port; a port of all this node's addresses;
 * a port of one address.
 */
export type FrontendKind = 'vip' | 'port' | 'bound'

/** A map of the table. */
export type MapName = `${FrontendKind}_${'servers' | 'slots'}`

/** The chain of servers that nobody serves. */
export const REFUSE_CHAIN = 'refuse'

const TRANSPORT = 'meta l4proto { tcp, udp, sctp }'

interface Words {
  readonly ip: string
  readonly addressType: string
  readonly unreachable: string
  readonly loopback: string
}

const WORDS: Readonly<Record<AddressFamily, Words>> = {
  ipv4: {
    ip: 'ip',
    addressType: 'ipv4_addr',
    unreachable: 'icmp port-unreachable',
    loopback: '127.0.0.0/8',
  },
  ipv6: {
    ip: 'ip6',
    addressType: 'ipv6_addr',
    unreachable: 'icmpv6 type port-unreachable',
    loopback: '::1',
  },
}

/** All kinds. */
export const FRONTEND_KINDS: readonly FrontendKind[] = ['vip', 'port', 'bound']

/** Fields of a kind's keys, and of what they lead to. */
function fieldsOf(
  kind: FrontendKind,
  ip: string,
): { readonly key: string; readonly target: string } {
  const port = 'meta l4proto . th dport'
  switch (kind) {
    case 'vip':
      return { key: `${ip} daddr`, target: `${ip} daddr` }
    case 'port':
      return { key: port, target: `${ip} daddr . th dport` }
    case 'bound':
      return { key: `${ip} daddr . ${port}`, target: `${ip} daddr . th dport` }
    default:
      return kind satisfies never
  }
}

/** The chain that picks among `slots` slots. */
export function pickChain(kind: FrontendKind, how: 'spread' | 'hash', slots: number): string {
  return `${kind}_${how}_${slots}`
}

/** Replaces the table by one with the rules and without elements, in one transaction. */
export function skeletonScript(table: string, family: AddressFamily): string {
  const { ip, addressType } = WORDS[family]
  return `table ${ip} ${table} {}
delete table ${ip} ${table}
table ${ip} ${table} {
  set ${revisionSet(family)} { type ${addressType}; }
${RULES[family]}}
`
}

/** The empty set that tables with these rules have. */
export function revisionSet(family: AddressFamily): string {
  return `revision_${hash('sha256', RULES[family]).slice(0, 12)}`
}

/** Rules of a chain that picks, of `refuse`, of `balance` with both base chains. */
const PICK_RULES = 2
const REFUSE_RULES = 2
const BALANCE_RULES = 7

/** How many rules the table has: fewer or more, and somebody changed it. */
export const RULE_COUNT =
  FRONTEND_KINDS.length *
    (1 + EXACT_SLOTS_MAX + WIDE_SLOTS.length + HASH_SLOTS.length) *
    PICK_RULES +
  REFUSE_RULES +
  BALANCE_RULES

function kindRules(kind: FrontendKind, ip: string): string {
  const { key, target } = fieldsOf(kind, ip)
  const pick = (number: string): string =>
    `${TRANSPORT} dnat ${ip} to ${key} . ${number} map @${kind}_slots`
  const chain = (name: string, number: string, last: string): string =>
    `  chain ${name} { ${pick(number)}; goto ${last}; }\n`
  const first = `${kind}_first`
  const exact = Array.from({ length: EXACT_SLOTS_MAX }, (_, index) => index + 1)
  return [
    `  map ${kind}_slots { typeof ${key} . numgen random mod 4096 : ${target}; }\n`,
    `  map ${kind}_servers { typeof ${key} : verdict; }\n`,
    chain(first, 'numgen random mod 1', REFUSE_CHAIN),
    ...[...exact, ...WIDE_SLOTS].map((slots) =>
      chain(pickChain(kind, 'spread', slots), `numgen random mod ${slots}`, first),
    ),
    ...HASH_SLOTS.map((slots) =>
      chain(
        pickChain(kind, 'hash', slots),
        `jhash ${ip} saddr mod ${slots} seed ${HASH_SEED}`,
        first,
      ),
    ),
  ].join('')
}

function rulesOf({ ip, unreachable, loopback }: Words): string {
  return `  chain ${REFUSE_CHAIN} {
    meta l4proto tcp reject with tcp reset
    reject with ${unreachable}
  }
${FRONTEND_KINDS.map((kind) => kindRules(kind, ip)).join('')}  chain balance {
    meta l4proto != { tcp, udp, sctp } return
    ${ip} daddr vmap @vip_servers
    ${ip} daddr ${loopback} return
    ${ip} daddr . meta l4proto . th dport vmap @bound_servers
    fib daddr type local meta l4proto . th dport vmap @port_servers
  }
  chain prerouting { type nat hook prerouting priority -100; jump balance; }
  chain output { type nat hook output priority -100; jump balance; }
`
}

const RULES = { ipv4: rulesOf(WORDS.ipv4), ipv6: rulesOf(WORDS.ipv6) } as const
