/**
 * Stands in for a kernel with IPVS where there is none: every exchange is copied, as the addon does,
 * and acknowledged in a later turn. So what the driver itself costs the event loop is measured on
 * this machine; what a kernel makes of it is not.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { genericHeader } from '../../src/network/netlink/generic.ts'
import { MessageWriter } from '../../src/network/netlink/message-writer.ts'
import {
  HEADER_BYTES,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLM_F_DUMP,
} from '../../src/network/netlink/message.ts'
import type { Native, NativeSocket } from '../../src/network/netlink/native.ts'

const CONTROLLER = 16
const FAMILY_ID = { attribute: 1, value: 33 }
const FAMILY_NAME = { attribute: 2, value: 'IPVS' }

/** The addon's functions, without a kernel. */
export function answeringKernel(): Native {
  return {
    open: () => Promise.resolve({} as NativeSocket),
    close: () => {},
    subscribe: () => {},
    readFile: () => Promise.resolve(new TextEncoder().encode('1\n')),
    writeFile: () => Promise.resolve(),
    createNetns: () => Promise.resolve(),
    removeNetns: () => Promise.resolve(),
    async exchange(_socket, request, lastSequence) {
      const { type, flags } = headerOf(Uint8Array.from(request))
      await nextTurn()
      return answerTo(type, flags, lastSequence)
    },
  }
}

function headerOf(message: Uint8Array): { readonly type: number; readonly flags: number } {
  const words = new Uint16Array(message.buffer, 0, HEADER_BYTES / 2)
  return { type: words[2] ?? 0, flags: words[3] ?? 0 }
}

function answerTo(type: number, flags: number, sequence: number): Uint8Array {
  const writer = new MessageWriter()
  const answer = (kind: number, body: () => void): void =>
    writer.message({ operation: 'answer', type: kind, flags: 0, body }, sequence)
  if (type === CONTROLLER) {
    answer(CONTROLLER, () => {
      genericHeader(writer, 1, 1)
      writer.u16(FAMILY_ID.attribute, FAMILY_ID.value)
      writer.text(FAMILY_NAME.attribute, FAMILY_NAME.value)
    })
  }
  const isDump = (flags & NLM_F_DUMP) === NLM_F_DUMP
  answer(isDump ? NLMSG_DONE : NLMSG_ERROR, () => writer.rawU32(0))
  return writer.bytes
}
