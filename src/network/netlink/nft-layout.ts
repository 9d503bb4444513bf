/**
 * Numbers of nf_tables. Source: `include/uapi/linux/netfilter/nf_tables.h`; the types of fields are
 * those of nft itself (`include/datatype.h`), which shows sets by them.
 */

export const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  deleteTable: 2,
  newChain: 3,
  getChain: 4,
  deleteChain: 5,
  newSet: 9,
  deleteSet: 11,
  newElement: 12,
  getElement: 13,
  deleteElement: 14,
  getGeneration: 16,
} as const

export const TABLE_ATTR = { name: 1 } as const
export const CHAIN_ATTR = { table: 1, name: 3, hook: 4, policy: 5, type: 7 } as const
export const HOOK_ATTR = { number: 1, priority: 2 } as const
export const HOOKS = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const
export const POLICY = { drop: 0, accept: 1 } as const

export const SET_ATTR = {
  table: 1,
  name: 2,
  flags: 3,
  keyType: 4,
  keyLength: 5,
  dataType: 6,
  dataLength: 7,
  description: 9,
  id: 10,
  timeout: 11,
  userData: 13,
} as const
/** For nft alone: the order of a single key's bytes, 1 = the host's. */
export const USER_DATA_KEY_ORDER = 0
export const USER_DATA_HOST_ORDER = 1
export const SET_DESCRIPTION = { concatenation: 2, element: 1, fieldLength: 1 } as const
export const SET_FLAG = { interval: 0x4, map: 0x8, timeout: 0x10, concatenation: 0x80 } as const

export const ELEMENT_LIST_ATTR = { table: 1, set: 2, elements: 3 } as const
export const LIST_ELEMENT = 1
export const ELEMENT_ATTR = {
  key: 1,
  data: 2,
  flags: 3,
  timeout: 4,
  expiration: 5,
  keyEnd: 10,
} as const
export const ELEMENT_FLAG_INTERVAL_END = 1
export const DATA_ATTR = { value: 1, verdict: 2 } as const
export const VERDICT_ATTR = { code: 1, chain: 2 } as const
/** Verdicts of elements; those below 0 are nf_tables' own. */
export const VERDICT_CODE = { drop: 0, accept: 1, jump: -3, goto: -4, return: -5 } as const
export const DATA_TYPE_VERDICT = 0xffff_ff00
export const DATA_LENGTH_VERDICT = 0

export const GENERATION_ID = 1

/** Bits of one type in the number of a concatenation. */
export const TYPE_BITS = 6
export const FIELD_TYPES = {
  integer: { type: 4, bytes: 4, isHostOrder: true },
  ipv4_addr: { type: 7, bytes: 4, isHostOrder: false },
  ipv6_addr: { type: 8, bytes: 16, isHostOrder: false },
  ether_addr: { type: 9, bytes: 6, isHostOrder: false },
  inet_proto: { type: 12, bytes: 1, isHostOrder: false },
  inet_service: { type: 13, bytes: 2, isHostOrder: false },
  mark: { type: 19, bytes: 4, isHostOrder: true },
  ifname: { type: 41, bytes: 16, isHostOrder: true },
} as const
