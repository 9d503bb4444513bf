/**
 * Netlink's framing: messages with a 16-byte header, padded to 4 bytes, and how the kernel says
 * that it is done or refuses. Pure. Reading takes views of the reply; bytes that are no netlink
 * give a `NetlinkError` with errno `EBADMSG`, never anything else.
 * Source: `include/uapi/linux/netlink.h`.
 */
import { Attributes } from './attributes.ts'
import { IS_LITTLE_ENDIAN as IS_LITTLE } from './byte-order.ts'
import { malformed } from './netlink-error.ts'

export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
/** Types below this are netlink's own. */
export const NLMSG_MIN_TYPE = 16

export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
/** In an answer: the table changed while it was dumped. */
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
/**
 * With NEW: replace what is there, refuse what is there, create what is not there, add at the end.
 */
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
/** In an error: the request is left out; texts follow. */
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200

const NLMSGERR_ATTR_MSG = 1

export const HEADER_BYTES = 16

/** One message received: the payload follows the 16-byte header. */
export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  readonly payload: DataView
}

/** The messages of a reply. @throws NetlinkError EBADMSG */
export function readMessages(bytes: Uint8Array): NetlinkMessage[] {
  return [...eachMessage(bytes)]
}

/**
 * The messages of a reply, one by one.
 *
 * @yields each in its turn
 * @throws NetlinkError EBADMSG
 */
export function* eachMessage(bytes: Uint8Array): Generator<NetlinkMessage> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let offset = 0
  while (offset < bytes.length) {
    if (offset + HEADER_BYTES > bytes.length) throw malformed(`${bytes.length - offset} bytes left`)
    const length = view.getUint32(offset, IS_LITTLE)
    if (length < HEADER_BYTES || length > bytes.length - offset) {
      throw malformed(`message of ${length} bytes`)
    }
    yield {
      type: view.getUint16(offset + 4, IS_LITTLE),
      flags: view.getUint16(offset + 6, IS_LITTLE),
      sequence: view.getUint32(offset + 8, IS_LITTLE),
      payload: new DataView(
        bytes.buffer,
        bytes.byteOffset + offset + HEADER_BYTES,
        length - HEADER_BYTES,
      ),
    }
    offset += (length + 3) & ~3
  }
}

/** How a request ended: 0, or the positive errno and the kernel's text. */
export interface Outcome {
  readonly errno: number
  readonly detail: string | undefined
}

/** Decodes NLMSG_ERROR and NLMSG_DONE. @throws NetlinkError EBADMSG */
export function readOutcome(message: NetlinkMessage): Outcome {
  const { payload, flags, type } = message
  if (payload.byteLength < 4) {
    if (type === NLMSG_DONE) return { errno: 0, detail: undefined }
    throw malformed(`error of ${payload.byteLength} bytes`)
  }
  // A finished dump carries a count or 0; only what is negative is an error.
  const errno = Math.max(0, -payload.getInt32(0, IS_LITTLE))
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno, detail: undefined }
  const texts = new Attributes(payload, type === NLMSG_DONE ? 4 : 4 + echoBytes(message))
  return { errno, detail: texts.text(NLMSGERR_ATTR_MSG) }
}

/** Length of the request that an error repeats: its header, and all of it unless capped. */
function echoBytes(message: NetlinkMessage): number {
  if (message.payload.byteLength < 4 + HEADER_BYTES) throw malformed('error without its request')
  if ((message.flags & NLM_F_CAPPED) !== 0) return HEADER_BYTES
  // Not by bits: a length of 2^31 and more would become negative.
  return 4 * Math.ceil(message.payload.getUint32(4, IS_LITTLE) / 4)
}

/** Reads host-order fields of a family's header; a short payload is `EBADMSG`. */
export function headerView(message: NetlinkMessage, bytes: number): DataView {
  if (message.payload.byteLength < bytes) {
    throw malformed(`message ${message.type} of ${message.payload.byteLength} bytes`)
  }
  return message.payload
}
