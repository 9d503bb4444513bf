/**
 * Properties of the codecs: nothing but a typed error comes from any bytes, and what is written is what is
 * read.
 */
import { isIPv6 } from 'node:net'
import test from 'ava'
import * as fc from 'fast-check'
import { addressBytes, addressText, macBytes, macText, parsePrefix } from './address.ts'
import { decodeConnection } from './conntrack.ts'
import { decodeFamily } from './generic.ts'
import { decodeDestination, decodeInfo, decodeService, decodeTimeouts } from './ipvs-reply.ts'
import { newService } from './ipvs.ts'
import type { ServiceKey } from './ipvs.ts'
import { decodeLink } from './link-reply.ts'
import { MessageWriter } from './message-writer.ts'
import { readMessages, readOutcome } from './message.ts'
import type { NetlinkMessage } from './message.ts'
import { decodeForwardingEntry, decodeNeighbour } from './neighbour.ts'
import { NetlinkError } from './netlink-error.ts'
import { decodeElements } from './nft-element.ts'
import { decodeGeneration } from './nftables.ts'
import { decodeAddress, decodeRoute } from './route.ts'
import { decodeRule } from './rule.ts'
import { decodeOpenSocket } from './sock-diag.ts'
import { recordings, first, encoded, IPVS, WEB, DNS6, PLAIN } from './testing/recorded.ts'

const decoders: readonly ((message: NetlinkMessage) => unknown)[] = [
  decodeService,
  decodeDestination,
  decodeTimeouts,
  decodeInfo,
  decodeFamily,
  decodeLink,
  decodeAddress,
  decodeRoute,
  decodeRule,
  decodeNeighbour,
  decodeForwardingEntry,
  decodeElements,
  decodeGeneration,
  decodeConnection,
  decodeOpenSocket,
  readOutcome,
]

/** Runs a decoder; only a typed error may come out. */
function survives(decode: () => unknown): boolean {
  try {
    decode()
    return true
  } catch (error) {
    return error instanceof NetlinkError && error.errno === 'EBADMSG'
  }
}

test('nothing but a typed error comes from random bytes', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(0xffff), (bytes, flags) => {
      if (!survives(() => readMessages(bytes))) return false
      const payload = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      const message = { type: 2, flags, sequence: 1, payload }
      return decoders.every((decode) => survives(() => decode(message)))
    }),
    { numRuns: 3000 },
  )
  t.pass()
})

test('nothing but a typed error comes from recorded bytes with mistakes in them', (t) => {
  const all = [...recordings.values()]
  fc.assert(
    fc.property(
      fc.nat(all.length - 1),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }),
      fc.nat(),
      (index, changes, cut) => {
        const bytes = Uint8Array.from(all[index] ?? [])
        for (const [place, value] of changes) bytes[place % bytes.length] = value
        const part = bytes.subarray(0, cut % 7 === 0 ? cut % bytes.length : bytes.length)
        return survives(() => {
          for (const message of readMessages(part)) {
            if (!decoders.every((decode) => survives(() => decode(message))))
              throw new Error('escaped')
          }
        })
      },
    ),
    { numRuns: 3000 },
  )
  t.pass()
})

const ipv4 = fc.ipV4()
const ipv6 = fc.ipV6()
const port = fc.integer({ min: 1, max: 65_535 })
const u32 = fc.nat(0xffff_ffff)

test('services and destinations are read as they were written', (t) => {
  const key: fc.Arbitrary<ServiceKey> = fc.oneof(
    fc.record({
      type: fc.constant('address' as const),
      protocol: fc.constantFrom('tcp' as const, 'udp' as const, 'sctp' as const),
      address: fc.oneof(ipv4, ipv6.map(canonical)),
      port,
    }),
    fc.record({
      type: fc.constant('mark' as const),
      mark: fc.integer({ min: 1, max: 0xffff_ffff }),
      family: fc.constantFrom('ipv4' as const, 'ipv6' as const),
    }),
  )
  const options = fc.record({
    scheduler: fc.constantFrom('rr', 'wrr', 'lc', 'wlc', 'mh', 'lblcr'),
    onePacket: fc.boolean(),
    schedulerFallback: fc.boolean(),
    schedulerPort: fc.boolean(),
  })
  const bits = fc.integer({ min: 1, max: 32 })
  fc.assert(
    fc.property(key, options, fc.option(bits), u32, (service, plain, prefixBits, seconds) => {
      const timeoutSeconds = (seconds >>> 1) + 1 > 0x7fff_ffff ? 1 : (seconds >>> 1) + 1
      const wanted =
        prefixBits === null ? plain : { ...plain, persistence: { timeoutSeconds, prefixBits } }
      const read = decodeService(encoded(newService(IPVS, { key: service, options: wanted })))
      t.deepEqual({ key: read.key, options: read.options }, { key: service, options: wanted })
    }),
  )
})

test('addresses are read as they were written, and their text is canonical', (t) => {
  fc.assert(
    fc.property(ipv6, (text) => {
      const read = addressText(10, addressBytes(text))
      t.true(isIPv6(read))
      t.is(read, canonical(text))
      t.deepEqual(addressBytes(read), addressBytes(text))
    }),
    { numRuns: 1000 },
  )
  fc.assert(
    fc.property(ipv4, (text) => {
      t.is(addressText(2, addressBytes(text)), text)
    }),
  )
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (bytes) => {
      t.deepEqual(macBytes(macText(bytes)), bytes)
    }),
  )
  t.is(addressText(10, addressBytes('::ffff:10.0.0.1')), '::ffff:a00:1')
  for (const wrong of ['', '1.2.3', '1::2::3', 'host']) t.throws(() => addressBytes(wrong))
  for (const wrong of ['10.0.0.0/33', '10.0.0.0/', '10.0.0.0/8/8', 'fd00::/129', '1/2']) {
    t.like(
      t.throws(() => parsePrefix(wrong)),
      { code: 'INVALID_ARGUMENT' },
    )
  }
  t.throws(() => macBytes('02:00:00:00:00'))
})

/** Canonical text by another implementation. */
function canonical(text: string): string {
  return new URL(`http://[${text}]/`).hostname.slice(1, -1)
}

test('a batch larger than the first buffer is written and read whole', (t) => {
  const writer = new MessageWriter()
  const count = 5000
  for (let index = 0; index < count; index += 1) {
    const address = `10.${(index >> 8) & 255}.${index & 255}.1`
    writer.message(newService(IPVS, { key: { ...WEB, address }, options: PLAIN }), index + 1)
  }
  const messages = readMessages(writer.bytes)
  t.is(messages.length, count)
  t.deepEqual(
    messages.map((message) => message.sequence),
    Array.from({ length: count }, (_, index) => index + 1),
  )
  for (const [index, message] of messages.entries()) {
    const { key } = decodeService(message)
    if (key.type !== 'address' || key.address !== `10.${(index >> 8) & 255}.${index & 255}.1`) {
      t.fail(`message ${index} is another's`)
    }
  }
  writer.clear()
  writer.message(newService(IPVS, { key: DNS6, options: PLAIN }), 1)
  t.deepEqual(decodeService(first(readMessages(writer.bytes))).key, DNS6)
})
