import test from 'ava'
import * as fc from 'fast-check'
import { AssertionError } from '../../base/assert.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { Message } from '../core/message.ts'
import {
  CODEC_VERSION,
  decodeMessages,
  decodeTransferHeader,
  encodeMessages,
  encodeTransferHeader,
} from './codec.ts'

const count = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const data = fc.uint8Array({ maxLength: 300 })
const entryType = fc.constantFrom('normal' as const, 'confChange' as const, 'confChangeV2' as const)
const envelope = { from: count, to: count, term: count }
const conf = fc.record({
  voters: fc.array(count, { maxLength: 5 }),
  votersOutgoing: fc.array(count, { maxLength: 5 }),
  learners: fc.array(count, { maxLength: 5 }),
  learnersNext: fc.array(count, { maxLength: 5 }),
  autoLeave: fc.boolean(),
})
const metadata = fc.record({ index: count, term: count, conf })

const append: fc.Arbitrary<Message> = fc
  .record({
    ...envelope,
    logTerm: count,
    index: fc.nat(),
    commit: count,
    parts: fc.array(fc.record({ term: count, type: entryType, data }), { maxLength: 5 }),
  })
  .map(({ parts, ...rest }) => ({
    type: 'app',
    ...rest,
    entries: parts.map((part, offset) => ({ index: rest.index + 1 + offset, ...part })),
  }))

const message: fc.Arbitrary<Message> = fc.oneof(
  append,
  fc.record({
    type: fc.constantFrom('vote' as const, 'preVote' as const),
    ...envelope,
    logTerm: count,
    index: count,
    transfer: fc.boolean(),
  }),
  fc.record({
    type: fc.constantFrom('voteResp' as const, 'preVoteResp' as const),
    ...envelope,
    reject: fc.boolean(),
  }),
  fc.record({
    type: fc.constantFrom('voteResp' as const, 'preVoteResp' as const),
    ...envelope,
    reject: fc.boolean(),
    committed: fc.record({ index: fc.integer({ min: 1 }), term: count }),
  }),
  fc.record({
    type: fc.constant('appResp' as const),
    ...envelope,
    index: count,
    reject: fc.boolean(),
    rejectHint: count,
    logTerm: count,
    commit: count,
  }),
  fc.record({
    type: fc.constant('heartbeat' as const),
    ...envelope,
    commit: count,
    context: count,
  }),
  fc.record({
    type: fc.constantFrom('heartbeatResp' as const, 'readIndex' as const),
    ...envelope,
    context: count,
  }),
  fc.record({
    type: fc.constant('readIndexResp' as const),
    ...envelope,
    index: count,
    context: count,
  }),
  fc.record({
    type: fc.constantFrom('timeoutNow' as const, 'transferLeader' as const),
    ...envelope,
  }),
  fc.record({
    type: fc.constant('prop' as const),
    ...envelope,
    entries: fc.array(fc.record({ type: entryType, data }), { maxLength: 4 }),
  }),
  fc.record({
    type: fc.constant('snap' as const),
    ...envelope,
    snapshot: fc.oneof(fc.record({ metadata }), fc.record({ metadata, data })),
  }),
)

test('every batch of messages between members reads back as it was', (t) => {
  const property = fc.property(fc.array(message, { maxLength: 6 }), (messages) => {
    t.deepEqual(decodeMessages(encodeMessages(messages)), messages)
  })
  fc.assert(property, { numRuns: 300, seed: 1 })
})

test('the header of a snapshot transfer reads back as it was', (t) => {
  const conf3 = {
    voters: [1, 2 ** 52 + 3],
    votersOutgoing: [],
    learners: [9],
    learnersNext: [],
    autoLeave: true,
  }
  const metadata3 = { index: 7, term: 3, conf: conf3 }
  const header = {
    message: { type: 'snap' as const, from: 1, to: 2, term: 3, snapshot: { metadata: metadata3 } },
    metadata: metadata3,
    membership: Uint8Array.of(1, 2, 3),
    sizeBytes: 2 ** 40,
    digest: '0123456789abcdef'.repeat(4),
  }
  t.deepEqual(decodeTransferHeader(encodeTransferHeader(header)), header)
  for (const digest of ['', '../../etc/passwd', header.digest.toUpperCase(), `${header.digest}0`]) {
    const bytes = encodeTransferHeader({ ...header, digest })
    t.true(
      isSwarmError(
        t.throws(() => decodeTransferHeader(bytes)),
        'INVALID_ARGUMENT',
      ),
    )
  }
})

test('what is only for this node is never encoded', (t) => {
  const hup: Message = { type: 'hup', from: 1, to: 1, term: 0 }
  t.throws(() => encodeMessages([hup]), { instanceOf: AssertionError })
})

test('bytes that are no frame are refused with a code, never with another error', (t) => {
  const refused = (bytes: Uint8Array): void => {
    try {
      decodeMessages(bytes)
    } catch (error) {
      t.true(isSwarmError(error, 'INVALID_ARGUMENT'), String(error))
    }
  }
  refused(new Uint8Array())
  refused(Uint8Array.of(CODEC_VERSION + 1, 0x90))
  const heartbeat: Message = { type: 'heartbeat', from: 1, to: 2, term: 3, commit: 4, context: 5 }
  const frame = encodeMessages([heartbeat, heartbeat])
  for (let length = 0; length < frame.length; length += 1) refused(frame.subarray(0, length))
  const noise = fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
    refused(Uint8Array.of(CODEC_VERSION, ...bytes))
  })
  fc.assert(noise, { numRuns: 500, seed: 1 })
  const flips = fc.property(fc.nat(frame.length - 1), fc.nat(255), (position, value) => {
    const copy = frame.slice()
    copy[position] = value
    refused(copy)
  })
  fc.assert(flips, { numRuns: 500, seed: 1 })
})
