/**
 * Reads which base chains a namespace has: everybody's, of all families. Pure but for the request,
 * which goes by `dump` of a socket of protocol `netfilter`.
 * Source: `net/netfilter/nf_tables_api.c`, `nf_tables_fill_chain_info`.
 */
import { required } from './attributes.ts'
import type { NetlinkRequest } from './message-writer.ts'
import { NLM_F_DUMP } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import {
  NFGENMSG_BYTES,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  nfnetlinkAttributes,
  nfnetlinkHeader,
  nfnetlinkType,
} from './nfnetlink.ts'
import { headerView } from './message.ts'
import { CHAIN_ATTR, HOOK_ATTR, HOOKS, NFT_MSG, POLICY } from './nft-layout.ts'
import type { NftTable } from './nftables.ts'

/** A chain that packets enter by themselves. */
export interface BaseChain {
  readonly table: NftTable
  readonly name: string
  readonly hook: keyof typeof HOOKS
  /** What becomes of packets that no rule decides about. */
  readonly policy: keyof typeof POLICY
}

/** Reads all chains. */
export function dumpChains(): NetlinkRequest {
  return {
    operation: 'list nft chains',
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.getChain),
    flags: NLM_F_DUMP,
    body: (writer) => nfnetlinkHeader(writer, 0),
  }
}

/**
 * The base chain; undefined when only others jump to it, or its hook is of devices or unknown.
 * @throws NetlinkError EBADMSG
 */
export function decodeBaseChain(message: NetlinkMessage): BaseChain | undefined {
  const number = headerView(message, NFGENMSG_BYTES).getUint8(0)
  const family = nameOf(NFPROTO, number)
  const attributes = nfnetlinkAttributes(message)
  const hook = nameOf(HOOKS, attributes.nested(CHAIN_ATTR.hook)?.u32be(HOOK_ATTR.number))
  const policy = nameOf(POLICY, attributes.u32be(CHAIN_ATTR.policy))
  if (family === undefined || hook === undefined || policy === undefined) return undefined
  const table = required(attributes.text(CHAIN_ATTR.table), 'table of a chain')
  const name = required(attributes.text(CHAIN_ATTR.name), 'chain name')
  return { table: { family, name: table }, name, hook, policy }
}

function nameOf<Name extends string>(
  numbers: Readonly<Record<Name, number>>,
  number: number | undefined,
): Name | undefined {
  return (Object.keys(numbers) as Name[]).find((name) => numbers[name] === number)
}
