/**
 * The wording of etcd's describers, for scripts that compare text: configurations, progress,
 * entries. Source: the expected outputs of etcd-io/raft's test data; etcd-io/raft `util.go`,
 * `tracker/`.
 */
import { decodeConfChange } from '../core/conf-change-codec.ts'
import type { ConfChange, ConfState, Entry, EntryType, PeerId } from '../core/entry.ts'
import type { Role } from '../core/ready.ts'
import type { ProgressMode, ProgressStatus } from '../core/status.ts'

const ROLES: Readonly<Record<Role, string>> = {
  follower: 'StateFollower',
  preCandidate: 'StatePreCandidate',
  candidate: 'StateCandidate',
  leader: 'StateLeader',
}

const MODES: Readonly<Record<ProgressMode, string>> = {
  probe: 'StateProbe',
  replicate: 'StateReplicate',
  snapshot: 'StateSnapshot',
}

const ENTRY_TYPES: Readonly<Record<EntryType, string>> = {
  normal: 'EntryNormal',
  confChange: 'EntryConfChange',
  confChangeV2: 'EntryConfChangeV2',
  restore: 'EntryRestore',
}

/** Letters of configuration changes in scripts: `v1 l2 r3 u4`. */
export const CHANGE_LETTERS = { addVoter: 'v', addLearner: 'l', remove: 'r', update: 'u' } as const

/** A role as etcd names it. */
export function describeRole(role: Role): string {
  return ROLES[role]
}

function group(ids: readonly PeerId[]): string {
  return `(${ids.join(' ')})`
}

/** `voters=(1 2)&&(1) learners=(3) learners_next=(2) autoleave`. */
export function describeConf(conf: ConfState): string {
  let text = `voters=${group(conf.voters)}`
  if (conf.votersOutgoing.length > 0) text += `&&${group(conf.votersOutgoing)}`
  if (conf.learners.length > 0) text += ` learners=${group(conf.learners)}`
  if (conf.learnersNext.length > 0) text += ` learners_next=${group(conf.learnersNext)}`
  return conf.autoLeave ? `${text} autoleave` : text
}

/** `StateReplicate match=3 next=4 paused inflight=1[full]`. */
export function describeProgress(progress: ProgressStatus): string {
  const parts = [MODES[progress.mode], `match=${progress.match}`, `next=${progress.next}`]
  if (progress.isLearner) parts.push('learner')
  if (progress.paused) parts.push('paused')
  if (progress.pendingSnapshot > 0) parts.push(`pendingSnap=${progress.pendingSnapshot}`)
  if (!progress.recentActive) parts.push('inactive')
  if (progress.inflight > 0)
    parts.push(`inflight=${progress.inflight}${progress.inflightFull ? '[full]' : ''}`)
  return parts.join(' ')
}

/** One line per member, ascending. */
export function describeProgressMap(progress: Iterable<readonly [PeerId, ProgressStatus]>): string {
  return [...progress].map(([id, status]) => `${id}: ${describeProgress(status)}\n`).join('')
}

/** `1/4 EntryNormal "data"`. */
export function describeEntry(entry: Entry): string {
  const head = `${entry.term}/${entry.index} ${ENTRY_TYPES[entry.type]}`
  if (entry.type === 'normal') return `${head} ${quote(entry.data)}`
  const changes = describeChanges(decodeConfChange(entry.data))
  return changes === '' ? head : `${head} ${changes}`
}

/** `v1 l2 r3`. */
export function describeChanges(change: ConfChange): string {
  return change.changes.map(({ type, peer }) => `${CHANGE_LETTERS[type]}${peer}`).join(' ')
}

/** Go's `%q`: printable text as it is, of the rest short escapes, code points, or bytes. */
export function quote(data: Uint8Array): string {
  const text = decodeText(data)
  if (text !== undefined) return `"${text.replaceAll(/[^]/gu, quoteChar)}"`
  const bytes = [...data].map((byte) => {
    return byte < 0x80 ? quoteChar(String.fromCharCode(byte)) : hexByte(byte)
  })
  return `"${bytes.join('')}"`
}

/** `data` as text, if it is text. */
function decodeText(data: Uint8Array): string | undefined {
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(data)
  return text.includes('\ufffd') ? undefined : text
}

function quoteChar(char: string): string {
  if (char === '"' || char === '\\') return `\\${char}`
  if (char === ' ' || /^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u.test(char)) return char
  const code = char.codePointAt(0) ?? 0
  const digits = code.toString(16)
  if (code < 0x80) return ESCAPES[char] ?? hexByte(code)
  return code < 0x10000 ? `\\u${digits.padStart(4, '0')}` : `\\U${digits.padStart(8, '0')}`
}

const hexByte = (byte: number): string => `\\x${byte.toString(16).padStart(2, '0')}`

const ESCAPES: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
}
