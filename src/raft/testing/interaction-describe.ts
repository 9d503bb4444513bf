/**
 * Messages and `Ready`s in etcd's wording. Source: the expected outputs of etcd-io/raft's
 * interaction scripts; etcd-io/raft `util.go`.
 */
import { APPEND_THREAD, APPLY_THREAD, isOneOf } from '../core/message.ts'
import type { Message, MessageType } from '../core/message.ts'
import type { Entry, HardState, Index, PeerId, Snapshot, Term } from '../core/entry.ts'
import { NO_PEER } from '../core/entry.ts'
import type { Ready } from '../core/ready.ts'
import { describeEntry, describeRole } from './describe.ts'

const MESSAGE_NAMES: Readonly<Record<MessageType, string>> = {
  hup: 'MsgHup',
  beat: 'MsgBeat',
  prop: 'MsgProp',
  app: 'MsgApp',
  appResp: 'MsgAppResp',
  vote: 'MsgVote',
  voteResp: 'MsgVoteResp',
  snap: 'MsgSnap',
  heartbeat: 'MsgHeartbeat',
  heartbeatResp: 'MsgHeartbeatResp',
  unreachable: 'MsgUnreachable',
  snapStatus: 'MsgSnapStatus',
  checkQuorum: 'MsgCheckQuorum',
  transferLeader: 'MsgTransferLeader',
  timeoutNow: 'MsgTimeoutNow',
  readIndex: 'MsgReadIndex',
  readIndexResp: 'MsgReadIndexResp',
  preVote: 'MsgPreVote',
  preVoteResp: 'MsgPreVoteResp',
  storageAppend: 'MsgStorageAppend',
  storageAppendResp: 'MsgStorageAppendResp',
  storageApply: 'MsgStorageApply',
  storageApplyResp: 'MsgStorageApplyResp',
  forgetLeader: 'MsgForgetLeader',
}

/** A message's kind as etcd names it. */
export function messageName(type: MessageType): string {
  return MESSAGE_NAMES[type]
}

/** A member in messages and log lines: hexadecimal. */
export function hex(peer: PeerId): string {
  if (peer === APPEND_THREAD) return 'AppendThread'
  if (peer === APPLY_THREAD) return 'ApplyThread'
  return peer.toString(16)
}

function target(peer: PeerId): string {
  return peer === NO_PEER ? 'None' : hex(peer)
}

function goSlice(ids: readonly PeerId[]): string {
  return `[${ids.join(' ')}]`
}

/** The fields that any kind of message may have. */
interface MessageFields {
  readonly from: PeerId
  readonly logTerm?: Term
  readonly index?: Index
  readonly reject?: boolean
  readonly rejectHint?: Index
  readonly commit?: Index
  readonly hardState?: HardState
  readonly entries?: readonly unknown[]
  readonly snapshot?: Snapshot
  readonly responses?: readonly Message[]
}

/** One message, on several lines if it carries several entries, a snapshot, or responses. */
export function describeMessage(message: Message, indent = ''): string {
  const fields: MessageFields = message
  const parts = [
    `${indent}${target(message.from)}->${target(message.to)} ${messageName(message.type)}`,
    `Term:${message.term} Log:${fields.logTerm ?? 0}/${fields.index ?? 0}`,
  ]
  if (fields.reject === true) parts.push(`Rejected (Hint: ${fields.rejectHint ?? 0})`)
  const commit = commitOf(message)
  if (commit > 0) parts.push(`Commit:${commit}`)
  const vote = fields.hardState?.vote ?? NO_PEER
  if (vote !== NO_PEER) parts.push(`Vote:${vote}`)
  const list = entriesOf(message)
  if (list.length > 0) parts.push(`Entries:[${inList(list.map(describeEntry), indent)}]`)
  let text = parts.join(' ')
  const { snapshot, responses } = fields
  if (snapshot !== undefined && snapshot.metadata.index > 0)
    text += `\n${indent}  Snapshot: ${describeSnapshot(snapshot)}`
  if (responses !== undefined && responses.length > 0) {
    const lines = responses.map((response) => describeMessage(response, `${indent}  `))
    text += ` Responses:[\n${lines.join('\n')}\n${indent}]`
  }
  return text
}

/** Everything in a `Ready`, each line with its newline. */
export function describeReady(ready: Ready): string {
  const { soft, hard, readStates, entries, snapshot, committed, messages } = ready
  const lines: string[] = []
  if (soft !== undefined) lines.push(`Lead:${soft.lead} State:${describeRole(soft.role)}`)
  if (hard !== undefined) lines.push(`HardState ${describeHardState(hard)}`)
  if (readStates.length > 0) {
    const states = readStates.map(({ index, context }) => `{${index} ${context}}`)
    lines.push(`ReadStates [${states.join(' ')}]`)
  }
  if (entries.length > 0) lines.push('Entries:', ...entries.map(describeEntry))
  if (snapshot !== undefined) lines.push(`Snapshot ${describeSnapshot(snapshot)}`)
  if (committed.length > 0) lines.push('CommittedEntries:', ...committed.map(describeEntry))
  if (messages.length > 0)
    lines.push('Messages:', ...messages.map((message) => describeMessage(message)))
  if (lines.length === 0) return '<empty Ready>\n'
  return `Ready MustSync=${ready.mustSync}:\n${lines.join('\n')}\n`
}

function describeHardState({ term, vote, commit }: HardState): string {
  return `Term:${term}${vote === NO_PEER ? '' : ` Vote:${vote}`} Commit:${commit}`
}

/** Position and configuration of a snapshot. */
export function describeSnapshot({ metadata: { index, term, conf } }: Snapshot): string {
  const state = [
    `Voters:${goSlice(conf.voters)}`,
    `VotersOutgoing:${goSlice(conf.votersOutgoing)}`,
    `Learners:${goSlice(conf.learners)}`,
    `LearnersNext:${goSlice(conf.learnersNext)}`,
    `AutoLeave:${conf.autoLeave}`,
  ]
  return `Index:${index} Term:${term} ConfState:${state.join(' ')}`
}

/** One inline, several on lines of their own. */
function inList(texts: readonly string[], indent: string): string {
  if (texts.length === 1) return texts.join('')
  return `${texts.map((text) => `\n${indent}  ${text}`).join('')}\n${indent}`
}

/** etcd's messages carry a commit index in these kinds only. */
function commitOf(message: Message): Index {
  if (message.type === 'app' || message.type === 'heartbeat') return message.commit
  return message.type === 'storageAppend' ? (message.hardState?.commit ?? 0) : 0
}

const carriesEntries = isOneOf(['app', 'storageAppend', 'storageApply', 'storageApplyResp'])

function entriesOf(message: Message): readonly Entry[] {
  if (carriesEntries(message)) return message.entries
  if (message.type !== 'prop') return []
  return message.entries.map((entry) => ({ ...entry, index: 0, term: 0 }))
}
