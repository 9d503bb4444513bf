/** Rules that choose a routing table: requests and answers. Pure. */
import { AF_INET, AF_INET6, addressBytes, addressText, parsePrefix } from './address.ts'
import { Attributes } from './attributes.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, headerView } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import { FRA, FR_ACT_TO_TABLE, RTM } from './route-layout.ts'

const HEADER_BYTES = 12

/** Packets that match all of it look into `table`. */
export interface Rule {
  readonly family: 'ipv4' | 'ipv6'
  readonly table: number
  /** Smaller comes first. */
  readonly priority: number
  readonly inDevice?: string
  readonly outDevice?: string
  readonly mark?: number
  /** Default: all bits. */
  readonly mask?: number
  readonly source?: string
  readonly destination?: string
  /** Number of who made it; 0 = nobody says. Kernels from 4.17 keep it. */
  readonly protocol?: number
}

/** Adds a rule. EEXIST when the same is there. */
export function newRule(rule: Rule): NetlinkRequest {
  return ruleRequest(rule, 'add', RTM.newRule, NLM_F_CREATE | NLM_F_EXCL)
}

/** Removes a rule that has all that is given. ENOENT when there is none. */
export function deleteRule(rule: Rule): NetlinkRequest {
  return ruleRequest(rule, 'delete', RTM.deleteRule, 0)
}

/** Reads the rules of a family: for `dump`. */
export function dumpRules(family: Rule['family']): NetlinkRequest {
  return {
    operation: `list ${family} rules`,
    type: RTM.getRule,
    flags: NLM_F_DUMP,
    body: (writer) => ruleHeader(writer, { family, destinationBits: 0, sourceBits: 0, action: 0 }),
  }
}

/** A rule; `undefined` for those that do not choose a table. @throws NetlinkError EBADMSG */
export function decodeRule(message: NetlinkMessage): Rule | undefined {
  const header = headerView(message, HEADER_BYTES)
  const attributes = new Attributes(header, HEADER_BYTES)
  const family = header.getUint8(0)
  if (header.getUint8(7) !== FR_ACT_TO_TABLE) return undefined
  if (family !== AF_INET && family !== AF_INET6) return undefined
  const prefix = (type: number, bits: number): string | undefined => {
    const bytes = attributes.bytes(type)
    return bytes === undefined ? undefined : `${addressText(family, bytes)}/${bits}`
  }
  const fields = {
    inDevice: attributes.text(FRA.inDevice),
    outDevice: attributes.text(FRA.outDevice),
    mark: attributes.u32(FRA.mark),
    mask: attributes.u32(FRA.mask),
    destination: prefix(FRA.destination, header.getUint8(1)),
    source: prefix(FRA.source, header.getUint8(2)),
    protocol: attributes.u8(FRA.protocol),
  }
  const present = Object.entries(fields).filter(([, value]) => value !== undefined)
  return {
    family: family === AF_INET ? 'ipv4' : 'ipv6',
    table: attributes.u32(FRA.table) ?? header.getUint8(4),
    priority: attributes.u32(FRA.priority) ?? 0,
    ...Object.fromEntries(present),
  }
}

function ruleRequest(rule: Rule, verb: string, type: number, flags: number): NetlinkRequest {
  const source = rule.source === undefined ? undefined : parsePrefix(rule.source)
  const destination = rule.destination === undefined ? undefined : parsePrefix(rule.destination)
  return {
    operation: `${verb} rule ${rule.priority} for table ${rule.table}`,
    type,
    flags,
    body: (writer) => {
      ruleHeader(writer, {
        family: rule.family,
        destinationBits: destination?.bits ?? 0,
        sourceBits: source?.bits ?? 0,
        action: FR_ACT_TO_TABLE,
      })
      if (destination !== undefined) {
        writer.bytesOf(FRA.destination, addressBytes(destination.address))
      }
      if (source !== undefined) writer.bytesOf(FRA.source, addressBytes(source.address))
      writeSelectors(writer, rule)
    },
  }
}

function writeSelectors(writer: MessageWriter, rule: Rule): void {
  writer.u32(FRA.priority, rule.priority)
  writer.u32(FRA.table, rule.table)
  if (rule.inDevice !== undefined) writer.text(FRA.inDevice, rule.inDevice)
  if (rule.outDevice !== undefined) writer.text(FRA.outDevice, rule.outDevice)
  if (rule.mark !== undefined) writer.u32(FRA.mark, rule.mark)
  if (rule.mask !== undefined) writer.u32(FRA.mask, rule.mask)
  if (rule.protocol !== undefined) writer.u8(FRA.protocol, rule.protocol)
}

interface RuleHeader {
  readonly family: Rule['family']
  readonly destinationBits: number
  readonly sourceBits: number
  readonly action: number
}

/** Writes `struct fib_rule_hdr`. */
function ruleHeader(writer: MessageWriter, header: RuleHeader): void {
  writer.rawU8(header.family === 'ipv4' ? AF_INET : AF_INET6)
  writer.rawU8(header.destinationBits)
  writer.rawU8(header.sourceBits)
  writer.rawU8(0)
  writer.rawU8(0)
  writer.rawU16(0)
  writer.rawU8(header.action)
  writer.rawU32(0)
}
