/**
 * One message as an array of plain values, and back: the layout on the wire, version 1. A row
 * begins with the number of its type. Types stand in `TYPES`; a new one is appended, none is
 * reused.
 */
import { assert } from '../../base/assert.ts'
import type { ConfState, Entry, EntryId, EntryType, Snapshot } from '../core/entry.ts'
import type { Message, MessageType, ProposedEntry } from '../core/message.ts'
import { Row } from './row-reader.ts'

const TYPES = [
  'vote',
  'preVote',
  'voteResp',
  'preVoteResp',
  'app',
  'appResp',
  'heartbeat',
  'heartbeatResp',
  'snap',
  'timeoutNow',
  'transferLeader',
  'prop',
  'readIndex',
  'readIndexResp',
] as const

/** Messages that travel between members. */
export type WireMessage = Extract<Message, { readonly type: (typeof TYPES)[number] }>

const TYPE_NUMBERS: ReadonlyMap<MessageType, number> = new Map(
  TYPES.map((type, position) => [type, position]),
)

const ENTRY_TYPES: readonly EntryType[] = ['normal', 'confChange', 'confChangeV2', 'restore']

/** Whether `message` may go to another member; the others are for this node alone. */
export function isWireMessage(message: Message): message is WireMessage {
  return TYPE_NUMBERS.has(message.type)
}

/** `message` as an array. */
export function toRow(message: Message): unknown[] {
  assert(isWireMessage(message), `${message.type} never leaves its node`)
  const type = TYPE_NUMBERS.get(message.type)
  return [type, message.from, message.to, message.term, ...fieldsOf(message)]
}

function fieldsOf(message: WireMessage): unknown[] {
  switch (message.type) {
    case 'vote':
    case 'preVote':
      return [message.logTerm, message.index, message.transfer, ...committedRow(message)]
    case 'voteResp':
    case 'preVoteResp':
      return [message.reject, ...committedRow(message)]
    case 'app': {
      const { logTerm, index, commit, entries } = message
      return [logTerm, index, commit, entries.map(entryRow)]
    }
    case 'appResp': {
      const { index, reject, rejectHint, logTerm, commit } = message
      return [index, reject, rejectHint, logTerm, commit]
    }
    case 'heartbeat':
      return [message.commit, message.context]
    case 'heartbeatResp':
      return [message.context]
    case 'snap':
      return snapshotRow(message.snapshot)
    case 'prop':
      return [message.entries.map(({ type, data }) => [ENTRY_TYPES.indexOf(type), data])]
    case 'readIndex':
      return [message.context]
    case 'readIndexResp':
      return [message.index, message.context]
    case 'timeoutNow':
    case 'transferLeader':
      return []
    default:
      return message satisfies never
  }
}

/** The message in an array. @throws INVALID_ARGUMENT when it is none */
export function fromRow(value: unknown): WireMessage {
  const row = new Row(value)
  const type = row.oneOf(TYPES)
  const envelope = { from: row.count(), to: row.count(), term: row.count() }
  switch (type) {
    case 'vote':
    case 'preVote': {
      const position = { logTerm: row.count(), index: row.count() }
      const transfer = row.flag()
      return { type, ...envelope, ...position, transfer, ...committedFrom(row) }
    }
    case 'voteResp':
    case 'preVoteResp':
      return { type, ...envelope, reject: row.flag(), ...committedFrom(row) }
    case 'app':
      return appendFrom(row, envelope)
    case 'appResp':
      return appendAnswerFrom(row, envelope)
    case 'snap':
      return { type, ...envelope, snapshot: snapshotFrom(row) }
    case 'prop':
      return { type, ...envelope, entries: row.list(proposedFrom) }
    case 'timeoutNow':
    case 'transferLeader':
      return { type, ...envelope }
    case 'heartbeat':
    case 'heartbeatResp':
    case 'readIndex':
    case 'readIndexResp':
      return roundFrom(type, envelope, row)
    default:
      return type satisfies never
  }
}

/** What a vote tells of the sender's commit index; 0 when it tells nothing. */
function committedRow({ committed }: { readonly committed?: EntryId }): unknown[] {
  return [committed?.index ?? 0, committed?.term ?? 0]
}

function committedFrom(row: Row): { readonly committed?: EntryId } {
  const committed = { index: row.count(), term: row.count() }
  return committed.index === 0 ? {} : { committed }
}

type Envelope = Pick<WireMessage, 'from' | 'to' | 'term'>
type RoundType = 'heartbeat' | 'heartbeatResp' | 'readIndex' | 'readIndexResp'

/** Messages that carry the number of a read. */
function roundFrom(type: RoundType, envelope: Envelope, row: Row): WireMessage {
  switch (type) {
    case 'heartbeat':
      return { type, ...envelope, commit: row.count(), context: row.count() }
    case 'readIndexResp':
      return { type, ...envelope, index: row.count(), context: row.count() }
    case 'heartbeatResp':
    case 'readIndex':
      return { type, ...envelope, context: row.count() }
    default:
      return type satisfies never
  }
}

function appendFrom(row: Row, envelope: Envelope): WireMessage {
  const position = { logTerm: row.count(), index: row.count(), commit: row.count() }
  const entries: Entry[] = []
  row.list((item) => {
    const [term, type, data] = [item.count(), item.oneOf(ENTRY_TYPES), item.bytes()]
    entries.push({ index: position.index + 1 + entries.length, term, type, data })
  })
  // Written out, as below: a spread costs more than all the rest of making a message.
  const { from, to, term } = envelope
  const { logTerm, index, commit } = position
  return { type: 'app', from, to, term, logTerm, index, commit, entries }
}

function appendAnswerFrom(row: Row, envelope: Envelope): WireMessage {
  return {
    type: 'appResp',
    from: envelope.from,
    to: envelope.to,
    term: envelope.term,
    index: row.count(),
    reject: row.flag(),
    rejectHint: row.count(),
    logTerm: row.count(),
    commit: row.count(),
  }
}

/** The index is not sent: entries of one message are contiguous. */
function entryRow({ term, type, data }: Entry): unknown[] {
  return [term, ENTRY_TYPES.indexOf(type), data]
}

function proposedFrom(item: Row): ProposedEntry {
  return { type: item.oneOf(ENTRY_TYPES), data: item.bytes() }
}

function snapshotRow({ metadata, data }: Snapshot): unknown[] {
  const { index, term, conf } = metadata
  return [index, term, confRow(conf), data ?? null]
}

function snapshotFrom(row: Row): Snapshot {
  const [index, term] = [row.count(), row.count()]
  const conf = confFrom(row.nested())
  const data = row.optionalBytes()
  const metadata = { index, term, conf }
  return data === undefined ? { metadata } : { metadata, data }
}

/** A configuration as an array; also used for the header of a snapshot transfer. */
export function confRow(conf: ConfState): unknown[] {
  return [conf.voters, conf.votersOutgoing, conf.learners, conf.learnersNext, conf.autoLeave]
}

/** @throws INVALID_ARGUMENT */
export function confFrom(row: Row): ConfState {
  const [voters, votersOutgoing] = [row.counts(), row.counts()]
  const [learners, learnersNext] = [row.counts(), row.counts()]
  return { voters, votersOutgoing, learners, learnersNext, autoLeave: row.flag() }
}
