/**
 * Changes of membership as the caller says them, checked, and as the core takes them. One change is
 * simple; several at once (a swap of voters) go through joint consensus, which the leader leaves by
 * itself (Ongaro §4.3; etcd `confchange`).
 */
import { SwarmError } from '../../base/errors.ts'
import type { ConfChange, ConfChangeSingle, Index, PeerId } from '../core/entry.ts'
import { memberNumber } from './member-numbers.ts'
import { encodeContext, type Membership, type NamedAddress } from './membership.ts'
import type { CallOptions } from './pending-calls.ts'
import type { ServerId } from './ports.ts'

/** One change of one member. */
export type MembershipChange =
  /** Adds a voter, promotes a learner, or renews a voter's address. */
  | { readonly type: 'addVoter'; readonly id: ServerId; readonly address: string }
  /** Adds a learner or renews its address. */
  | { readonly type: 'addLearner'; readonly id: ServerId; readonly address: string }
  | { readonly type: 'demoteVoter'; readonly id: ServerId }
  | { readonly type: 'removeServer'; readonly id: ServerId }

/** Options of calls that change the membership. */
export interface MembershipOptions extends CallOptions {
  /**
   * The change is made only if the configuration is still that of this index
   * (`configuration.index`): so two operators cannot undo each other's work unseen.
   */
  readonly prevIndex?: Index | undefined
}

/** @throws FAILED_PRECONDITION when the configuration has changed since `prevIndex` */
export function assertUnchanged(index: Index, { prevIndex }: MembershipOptions): void {
  if (prevIndex === undefined || prevIndex === index) return
  const message = `membership: the configuration is that of entry ${index}, not ${prevIndex}`
  throw new SwarmError('FAILED_PRECONDITION', message)
}

/**
 * The core's form of `changes`.
 * @throws INVALID_ARGUMENT, NOT_FOUND, or FAILED_PRECONDITION when no voter would be left
 */
export function toConfChange(
  membership: Membership,
  changes: readonly MembershipChange[],
): ConfChange {
  checkIds(membership, changes)
  const singles = changes.map(toSingle)
  checkVotersLeft(membership, singles)
  const named = changes.filter((change): change is MembershipChange & NamedAddress => {
    return change.type === 'addVoter' || change.type === 'addLearner'
  })
  const context = encodeContext(named.map(({ id, address }) => ({ id, address })))
  return { transition: 'auto', changes: singles, context }
}

function toSingle(change: MembershipChange): ConfChangeSingle {
  const peer = memberNumber(change.id)
  switch (change.type) {
    case 'addVoter':
      return { type: 'addVoter', peer }
    case 'addLearner':
    case 'demoteVoter':
      return { type: 'addLearner', peer }
    case 'removeServer':
      return { type: 'remove', peer }
    default:
      return change satisfies never
  }
}

function checkIds(membership: Membership, changes: readonly MembershipChange[]): void {
  if (changes.length === 0)
    throw new SwarmError('INVALID_ARGUMENT', 'membership: nothing to change')
  const numbers = new Set(changes.map(({ id }) => memberNumber(id)))
  if (numbers.size !== changes.length) {
    throw new SwarmError('INVALID_ARGUMENT', 'membership: a server is named twice')
  }
  for (const { type, id } of changes) {
    if (type === 'addVoter' || type === 'addLearner') membership.assertDistinct(id)
    else if (!membership.has(id)) {
      throw new SwarmError('NOT_FOUND', `server ${id}: is no member`)
    }
    if (type === 'addLearner' && membership.suffrageOf(id) === 'voter') {
      throw new SwarmError('FAILED_PRECONDITION', `server ${id}: is a voter; demote it instead`)
    }
  }
}

function checkVotersLeft(membership: Membership, singles: readonly ConfChangeSingle[]): void {
  const voters = new Set<PeerId>(membership.conf.voters)
  for (const { type, peer } of singles) {
    if (type === 'addVoter') voters.add(peer)
    else voters.delete(peer)
  }
  if (voters.size === 0) {
    throw new SwarmError('FAILED_PRECONDITION', 'membership: the last voter cannot go')
  }
}
