/** Messages and snapshots for tests of the core, short to write. */
import type { ConfChange, Index, PeerId, Snapshot, Term } from '../core/entry.ts'
import type { AppendRequest, Message, MessageOf, MessageType } from '../core/message.ts'
import { EMPTY_SNAPSHOT } from './memory-log.ts'

/** What a leader, member 2, sends member 1; without entries if not told otherwise. */
export function append(fields: Partial<AppendRequest> & { readonly term: Term }): AppendRequest {
  return { type: 'app', from: 2, to: 1, logTerm: 0, index: 0, entries: [], commit: 0, ...fields }
}

/** Those of one type. */
export function ofType<T extends MessageType>(
  messages: readonly Message[],
  type: T,
): MessageOf<T>[] {
  return messages.filter((message): message is MessageOf<T> => message.type === type)
}

/** A follower's answer to member 1: it has everything up to `index`. */
export function acceptance(from: PeerId, term: Term, index: Index): Message {
  const rest = { reject: false, rejectHint: 0, logTerm: 0, commit: 0 }
  return { type: 'appResp', from, to: 1, term, index, ...rest }
}

/** What candidate 3 asks of member 2, with a log that is newer than any. */
export function vote(fields: { term: Term; transfer: boolean }): Message {
  return { type: 'vote', from: 3, to: 2, logTerm: 9, index: 9, ...fields }
}

/** What a candidate asks of member 1; with an empty log if not told otherwise. */
export function voteRequest(
  from: PeerId,
  term: Term,
  last: { term: Term; index: Index } = { term: 0, index: 0 },
): Message {
  return { type: 'vote', from, to: 1, term, logTerm: last.term, index: last.index, transfer: false }
}

/** The answer to candidate 1. */
export function voteResponse(from: PeerId, term: Term, reject: boolean): Message {
  return { type: 'voteResp', from, to: 1, term, reject }
}

/** A change in short: `v4 l5 r6` makes 4 a voter, 5 a learner, and removes 6. */
export function change(text: string, transition: ConfChange['transition'] = 'auto'): ConfChange {
  const types = { v: 'addVoter', l: 'addLearner', r: 'remove' } as const
  const changes = text
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => ({ type: types[word[0] as 'v' | 'l' | 'r'], peer: Number(word.slice(1)) }))
  return { transition, changes }
}

/** A snapshot of a group of these voters. */
export function snapshotAt(index: Index, term: Term, voters: readonly PeerId[]): Snapshot {
  return { metadata: { index, term, conf: { ...EMPTY_SNAPSHOT.metadata.conf, voters } } }
}
