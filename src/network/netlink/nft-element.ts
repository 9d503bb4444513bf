/**
 * Elements of nf_tables' sets and maps: requests for `NetlinkSocket.transaction`, and reading them
 * back by `dump`.
 */
import { required } from './attributes.ts'
import type { Attributes } from './attributes.ts'
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
import { fieldsBytes } from './nft-field.ts'
import {
  DATA_ATTR,
  ELEMENT_ATTR,
  ELEMENT_FLAG_INTERVAL_END,
  ELEMENT_LIST_ATTR,
  LIST_ELEMENT,
  NFT_MSG,
  VERDICT_ATTR,
  VERDICT_CODE,
} from './nft-layout.ts'
import { setText } from './nftables.ts'
import type { NftSetRef } from './nftables.ts'

/**
 * Elements a message: a list's length is 16 bits, and the longest element has less than 200 bytes.
 */
const ELEMENTS_PER_MESSAGE = 300

/** What a verdict map says. */
export interface Verdict {
  readonly verdict: keyof typeof VERDICT_CODE
  /** Of jump and goto. */
  readonly chain?: string
}

/** An element. Fields come from `nft-field.ts`. */
export interface NftElement {
  readonly key: readonly Uint8Array[]
  /** Last key of a range of tuples. */
  readonly keyEnd?: readonly Uint8Array[]
  /** In sets of ranges of one field: the key is the first that belongs no longer to the range. */
  readonly isIntervalEnd?: boolean
  /** Of maps. */
  readonly data?: readonly Uint8Array[] | Verdict
  readonly timeoutMs?: number
}

/** An element as the kernel has it: whole keys and values. */
export interface KernelElement {
  readonly key: Uint8Array
  readonly keyEnd: Uint8Array | undefined
  readonly isIntervalEnd: boolean
  readonly data: Uint8Array | undefined
  readonly verdict: Verdict | undefined
  /** Time until it ends by itself. */
  readonly expiresInMs: number | undefined
}

/** Adds elements; equal ones that are there are kept, others with the same key are EEXIST. */
export function addElements(set: NftSetRef, elements: readonly NftElement[]): NetlinkRequest[] {
  return elementRequests(set, elements, {
    verb: 'add elements to',
    command: NFT_MSG.newElement,
    flags: NLM_F_CREATE,
  })
}

/** Adds elements; EEXIST when any is there. */
export function newElements(set: NftSetRef, elements: readonly NftElement[]): NetlinkRequest[] {
  return elementRequests(set, elements, {
    verb: 'add elements to',
    command: NFT_MSG.newElement,
    flags: NLM_F_CREATE | NLM_F_EXCL,
  })
}

/** Removes elements; ENOENT when any is not there. Values are not looked at. */
export function deleteElements(set: NftSetRef, elements: readonly NftElement[]): NetlinkRequest[] {
  return elementRequests(set, elements, {
    verb: 'delete elements from',
    command: NFT_MSG.deleteElement,
    flags: 0,
  })
}

/** Removes all elements. */
export function flushElements(set: NftSetRef): NetlinkRequest {
  return {
    operation: `flush nft set ${setText(set)}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.deleteElement),
    flags: 0,
    body: (writer) => writeSetRef(writer, set),
  }
}

/** Reads the elements: for `dump`. ENOENT when there is no such set. */
export function dumpElements(set: NftSetRef): NetlinkRequest {
  return {
    operation: `list elements of ${setText(set)}`,
    type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, NFT_MSG.getElement),
    flags: NLM_F_DUMP,
    body: (writer) => writeSetRef(writer, set),
  }
}

/** The elements of one message of a dump. @throws NetlinkError EBADMSG */
export function decodeElements(message: NetlinkMessage): KernelElement[] {
  return nfnetlinkAttributes(message).list(ELEMENT_LIST_ATTR.elements).map(decodeElement)
}

function decodeElement(element: Attributes): KernelElement {
  const data = element.nested(ELEMENT_ATTR.data)
  const verdict = data?.nested(DATA_ATTR.verdict)
  const flags = element.u32be(ELEMENT_ATTR.flags) ?? 0
  const expiration = element.u64be(ELEMENT_ATTR.expiration)
  const key = element.nested(ELEMENT_ATTR.key)?.bytes(DATA_ATTR.value)
  return {
    key: required(key, 'key'),
    keyEnd: element.nested(ELEMENT_ATTR.keyEnd)?.bytes(DATA_ATTR.value),
    isIntervalEnd: (flags & ELEMENT_FLAG_INTERVAL_END) !== 0,
    data: data?.bytes(DATA_ATTR.value),
    verdict: verdict && decodeVerdict(verdict),
    expiresInMs: expiration === undefined ? undefined : Number(expiration),
  }
}

function decodeVerdict(attributes: Attributes): Verdict {
  const code = required(attributes.u32be(VERDICT_ATTR.code), 'verdict') | 0
  const chain = attributes.text(VERDICT_ATTR.chain)
  for (const [name, value] of Object.entries(VERDICT_CODE)) {
    if (value !== code) continue
    const verdict = name as keyof typeof VERDICT_CODE
    return chain === undefined ? { verdict } : { verdict, chain }
  }
  return required<Verdict>(undefined, `name of verdict ${code}`)
}

function elementRequests(
  set: NftSetRef,
  elements: readonly NftElement[],
  about: { readonly verb: string; readonly command: number; readonly flags: number },
): NetlinkRequest[] {
  const requests: NetlinkRequest[] = []
  for (let start = 0; start < elements.length; start += ELEMENTS_PER_MESSAGE) {
    const part = elements.slice(start, start + ELEMENTS_PER_MESSAGE)
    requests.push({
      operation: `${about.verb} nft set ${setText(set)}`,
      type: nfnetlinkType(NFNL_SUBSYS_NFTABLES, about.command),
      flags: about.flags,
      body: (writer) => {
        writeSetRef(writer, set)
        writer.nested(ELEMENT_LIST_ATTR.elements, () => {
          for (const element of part) writeElement(writer, element)
        })
      },
    })
  }
  return requests
}

function writeSetRef(writer: MessageWriter, { table, set }: NftSetRef): void {
  nfnetlinkHeader(writer, NFPROTO[table.family])
  writer.text(ELEMENT_LIST_ATTR.table, table.name)
  writer.text(ELEMENT_LIST_ATTR.set, set)
}

function writeElement(writer: MessageWriter, element: NftElement): void {
  const { keyEnd, data, timeoutMs } = element
  writer.nested(LIST_ELEMENT, () => {
    writeValue(writer, ELEMENT_ATTR.key, element.key)
    if (keyEnd !== undefined) writeValue(writer, ELEMENT_ATTR.keyEnd, keyEnd)
    if (element.isIntervalEnd === true) {
      writer.u32be(ELEMENT_ATTR.flags, ELEMENT_FLAG_INTERVAL_END)
    }
    if (data !== undefined) writeData(writer, data)
    if (timeoutMs !== undefined) writer.u64be(ELEMENT_ATTR.timeout, BigInt(timeoutMs))
  })
}

function writeValue(writer: MessageWriter, type: number, fields: readonly Uint8Array[]): void {
  writer.nested(type, () => writer.bytesOf(DATA_ATTR.value, fieldsBytes(fields)))
}

function writeData(writer: MessageWriter, data: readonly Uint8Array[] | Verdict): void {
  if (!('verdict' in data)) {
    writeValue(writer, ELEMENT_ATTR.data, data)
    return
  }
  writer.nested(ELEMENT_ATTR.data, () => {
    writer.nested(DATA_ATTR.verdict, () => {
      writer.u32be(VERDICT_ATTR.code, VERDICT_CODE[data.verdict])
      if (data.chain !== undefined) writer.text(VERDICT_ATTR.chain, data.chain)
    })
  })
}
