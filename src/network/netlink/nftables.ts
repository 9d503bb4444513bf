/**
 * nf_tables: tables, chains, sets, maps and their elements. Pure; requests that change something go
 * into `NetlinkSocket.transaction(NFNL_SUBSYS_NFTABLES, …)` of a socket of protocol `netfilter`:
 * all or
 * none. Reads go by `dump` and `request`.
 *
 * Rules are not encoded here. The skeleton of rules is static and loaded once by `nft -f -`; what
 * changes at run time are elements of sets and maps, at a tenth of a millisecond each instead of an
 * `nft` process that reads the whole ruleset first.
 *
 * A key or value is a list of fields, each padded to 4 bytes (`nft-field.ts`). Numbers are
 * big-endian in attributes; a field's own order is its type's.
 * Source: `include/uapi/linux/netfilter/nf_tables.h`, `net/netfilter/nf_tables_api.c`.
 */
import { required } from './attributes.ts'
import type { MessageWriter, NetlinkRequest } from './message-writer.ts'
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import {
  NFNL_SUBSYS_NFTABLES,
  NFPROTO,
  nfnetlinkAttributes,
  nfnetlinkHeader,
  nfnetlinkType,
} from './nfnetlink.ts'
import { numberField } from './nft-field.ts'
import {
  CHAIN_ATTR,
  DATA_LENGTH_VERDICT,
  DATA_TYPE_VERDICT,
  FIELD_TYPES,
  GENERATION_ID,
  HOOK_ATTR,
  HOOKS,
  NFT_MSG,
  POLICY,
  SET_ATTR,
  SET_DESCRIPTION,
  SET_FLAG,
  TABLE_ATTR,
  TYPE_BITS,
  USER_DATA_HOST_ORDER,
  USER_DATA_KEY_ORDER,
} from './nft-layout.ts'

/** A table: everything else is named within one. */
export interface NftTable {
  readonly family: keyof typeof NFPROTO
  readonly name: string
}

/** A set or map within its table. */
export interface NftSetRef {
  readonly table: NftTable
  readonly set: string
}

/** A chain. With `hook` it is a base chain; without, rules jump to it. */
export interface NftChain {
  readonly table: NftTable
  readonly name: string
  readonly hook?: {
    readonly type: 'filter' | 'nat' | 'route'
    readonly hook: keyof typeof HOOKS
    readonly priority: number
    readonly policy: keyof typeof POLICY
  }
}

/** Type of one field of a key or value. */
export type FieldType = keyof typeof FIELD_TYPES

/** A set, or with `data` a map. */
export interface NftSet extends NftSetRef {
  readonly key: readonly FieldType[]
  readonly data?: readonly FieldType[] | 'verdict'
  /** Whether keys are ranges. */
  readonly isInterval?: boolean
  /** Elements end by themselves after so long, unless they have their own time. */
  readonly timeoutMs?: number
  /** Whether elements may have a time of their own. */
  readonly hasTimeouts?: boolean
}

/** Adds a table; keeps one that is there. */
export function newTable(table: NftTable): NetlinkRequest {
  return tableRequest(table, { verb: 'add', command: NFT_MSG.newTable, flags: NLM_F_CREATE })
}

/** Removes a table with all that is in it. ENOENT when there is none. */
export function deleteTable(table: NftTable): NetlinkRequest {
  return tableRequest(table, { verb: 'delete', command: NFT_MSG.deleteTable, flags: 0 })
}

/** Reads the tables of a family: for `dump`. */
export function dumpTables(family: NftTable['family']): NetlinkRequest {
  return {
    operation: `list ${family} tables`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.getTable),
    flags: NLM_F_DUMP,
    body: (writer) => nfnetlinkHeader(writer, NFPROTO[family]),
  }
}

/** A table's name. @throws NetlinkError EBADMSG */
export function decodeTableName(message: NetlinkMessage): string {
  return required(nfnetlinkAttributes(message).text(TABLE_ATTR.name), 'table name')
}

/** Adds a chain; keeps one that is there and is the same. */
export function newChain(chain: NftChain): NetlinkRequest {
  const { table, name, hook } = chain
  return {
    operation: `add nft chain ${table.family} ${table.name} ${name}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.newChain),
    flags: NLM_F_CREATE,
    body: (writer) => {
      nfnetlinkHeader(writer, NFPROTO[table.family])
      writer.text(CHAIN_ATTR.table, table.name)
      writer.text(CHAIN_ATTR.name, name)
      if (hook === undefined) return
      writer.nested(CHAIN_ATTR.hook, () => {
        writer.u32be(HOOK_ATTR.number, HOOKS[hook.hook])
        writer.u32be(HOOK_ATTR.priority, hook.priority)
      })
      writer.u32be(CHAIN_ATTR.policy, POLICY[hook.policy])
      writer.text(CHAIN_ATTR.type, hook.type)
    },
  }
}

/** Removes a chain. EBUSY while it has rules or is jumped to. */
export function deleteChain(chain: Pick<NftChain, 'table' | 'name'>): NetlinkRequest {
  const { table, name } = chain
  return {
    operation: `delete nft chain ${table.family} ${table.name} ${name}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.deleteChain),
    flags: 0,
    body: (writer) => {
      nfnetlinkHeader(writer, NFPROTO[table.family])
      writer.text(CHAIN_ATTR.table, table.name)
      writer.text(CHAIN_ATTR.name, name)
    },
  }
}

/**
 * Adds a set or map. EEXIST when the name is taken. `id` tells the new sets of a transaction apart.
 */
export function newSet(set: NftSet, id = 1): NetlinkRequest {
  return {
    operation: `add nft set ${setText(set)}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.newSet),
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: (writer) => {
      nfnetlinkHeader(writer, NFPROTO[set.table.family])
      writer.text(SET_ATTR.table, set.table.name)
      writer.text(SET_ATTR.name, set.set)
      writer.u32be(SET_ATTR.flags, setFlags(set))
      writeTypes(writer, set.key, { type: SET_ATTR.keyType, length: SET_ATTR.keyLength })
      writeData(writer, set)
      writer.u32be(SET_ATTR.id, id)
      if (set.timeoutMs !== undefined) writer.u64be(SET_ATTR.timeout, BigInt(set.timeoutMs))
      if (set.isInterval === true && set.key.length > 1) writeConcatenation(writer, set.key)
      writeKeyOrder(writer, set.key)
    },
  }
}

/** Removes a set or map. EBUSY while a rule uses it. */
export function deleteSet(set: NftSetRef): NetlinkRequest {
  return {
    operation: `delete nft set ${setText(set)}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.deleteSet),
    flags: 0,
    body: (writer) => {
      nfnetlinkHeader(writer, NFPROTO[set.table.family])
      writer.text(SET_ATTR.table, set.table.name)
      writer.text(SET_ATTR.name, set.set)
    },
  }
}

/** Reads the number of the ruleset's generation, which every change raises: for `request`. */
export function getGeneration(): NetlinkRequest {
  return {
    operation: 'read nft generation',
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.getGeneration),
    flags: 0,
    body: (writer) => nfnetlinkHeader(writer, 0),
  }
}

/** The generation's number. @throws NetlinkError EBADMSG */
export function decodeGeneration(message: NetlinkMessage): number {
  return required(nfnetlinkAttributes(message).u32be(GENERATION_ID), 'generation')
}

/** `ip skein slots`, for messages. */
export function setText({ table, set }: NftSetRef): string {
  return `${table.family} ${table.name} ${set}`
}

function tableRequest(
  table: NftTable,
  about: { readonly verb: string; readonly command: number; readonly flags: number },
): NetlinkRequest {
  return {
    operation: `${about.verb} nft table ${table.family} ${table.name}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, about.command),
    flags: about.flags,
    body: (writer) => {
      nfnetlinkHeader(writer, NFPROTO[table.family])
      writer.text(TABLE_ATTR.name, table.name)
    },
  }
}

function setFlags(set: NftSet): number {
  const isConcatenated = set.isInterval === true && set.key.length > 1
  const hasTimeouts = set.hasTimeouts === true || set.timeoutMs !== undefined
  return (
    (set.data === undefined ? 0 : SET_FLAG.map) |
    (set.isInterval === true ? SET_FLAG.interval : 0) |
    (isConcatenated ? SET_FLAG.concatenation : 0) |
    (hasTimeouts ? SET_FLAG.timeout : 0)
  )
}

/** Writes the type, a number that nft alone reads, and the length of fields. */
function writeTypes(
  writer: MessageWriter,
  fields: readonly FieldType[],
  attributes: { readonly type: number; readonly length: number },
): void {
  let type = 0
  for (const field of fields) type = (type << TYPE_BITS) | FIELD_TYPES[field].type
  writer.u32be(attributes.type, type)
  writer.u32be(attributes.length, fields.length === 1 ? lengthOf(fields) : paddedLength(fields))
}

function lengthOf(fields: readonly FieldType[]): number {
  return fields.reduce((sum, field) => sum + FIELD_TYPES[field].bytes, 0)
}

function paddedLength(fields: readonly FieldType[]): number {
  return fields.reduce((sum, field) => sum + ((FIELD_TYPES[field].bytes + 3) & ~3), 0)
}

function writeData(writer: MessageWriter, set: NftSet): void {
  if (set.data === 'verdict') {
    writer.u32be(SET_ATTR.dataType, DATA_TYPE_VERDICT)
    writer.u32be(SET_ATTR.dataLength, DATA_LENGTH_VERDICT)
  } else if (set.data !== undefined) {
    writeTypes(writer, set.data, { type: SET_ATTR.dataType, length: SET_ATTR.dataLength })
  }
}

/** Tells nft, which shows sets, that a single key is in the host's order. */
function writeKeyOrder(writer: MessageWriter, [field, ...more]: readonly FieldType[]): void {
  if (field === undefined || more.length > 0 || !FIELD_TYPES[field].isHostOrder) return
  const value = numberField(USER_DATA_HOST_ORDER)
  writer.bytesOf(SET_ATTR.userData, Uint8Array.of(USER_DATA_KEY_ORDER, value.length, ...value))
}

/** Tells the kernel where the fields of a range of tuples begin. */
function writeConcatenation(writer: MessageWriter, fields: readonly FieldType[]): void {
  writer.nested(SET_ATTR.description, () => {
    writer.nested(SET_DESCRIPTION.concatenation, () => {
      for (const field of fields) {
        writer.nested(SET_DESCRIPTION.element, () => {
          writer.u32be(SET_DESCRIPTION.fieldLength, FIELD_TYPES[field].bytes)
        })
      }
    })
  })
}
