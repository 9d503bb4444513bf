/**
 * Messages that were recorded from ipvsadm, iproute2 and nft, and from kernels that answered them
 * (`fixtures/recorded.jsonl`: one message or reply a line, with the command).
 */
import { readFileSync } from 'node:fs'
import type { ServiceKey, ServiceOptions } from '../ipvs.ts'
import { MessageWriter } from '../message-writer.ts'
import type { NetlinkRequest } from '../message-writer.ts'
import { readMessages } from '../message.ts'
import type { NetlinkMessage } from '../message.ts'

interface Recorded {
  readonly name: string
  readonly command: string
  readonly hex: string
}

/** Bytes by the name of the recording. */
export const recordings = new Map(
  readFileSync(new URL('../fixtures/recorded.jsonl', import.meta.url), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Recorded)
    .map((each) => [each.name, Uint8Array.from(Buffer.from(each.hex, 'hex'))] as const),
)

/** The recorded messages of this name. */
export function recorded(name: string): NetlinkMessage[] {
  const bytes = recordings.get(name)
  if (bytes === undefined) throw new Error(`no recording ${name}`)
  return readMessages(bytes)
}

/** The first of messages, which must be there. */
export function first(messages: readonly NetlinkMessage[]): NetlinkMessage {
  const [message] = messages
  if (message === undefined) throw new Error('no message')
  return message
}

/** A request as it is sent, read back as a message. */
export function encoded(request: NetlinkRequest): NetlinkMessage {
  const writer = new MessageWriter()
  writer.message(request, 7)
  return first(readMessages(writer.bytes))
}

/** The number of IPVS' family where the recordings were made. */
export const IPVS = 0x1c
/** A virtual service in IPv4. */
export const WEB = {
  type: 'address',
  protocol: 'tcp',
  address: '10.96.0.1',
  port: 80,
} as const satisfies ServiceKey
/** A virtual service in IPv6. */
export const DNS6 = {
  type: 'address',
  protocol: 'udp',
  address: 'fd00::1',
  port: 53,
} as const satisfies ServiceKey
/** Options of a service without extras. */
export const PLAIN: ServiceOptions = {
  scheduler: 'wrr',
  onePacket: false,
  schedulerFallback: false,
  schedulerPort: false,
}
