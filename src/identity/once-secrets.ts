/**
 * Secrets of one-time join tokens: each admits exactly one node. A used one stays in the list with
 * the peer id of the node that used it, so that this node may ask again (its answer was lost) and
 * another one is told that it came too late. Pure: each function gives a new list, oldest first.
 *
 *   made ──► unused ──► used by a peer ──► forgotten (makes room for a new one)
 *               └──► void (its role's token was rotated)
 */
import { SwarmError } from '../base/errors.ts'
import { isRecord } from './fields.ts'
import type { JoinRole } from './join-token.ts'

/**
 * One-time secrets that a cluster remembers. A join proves each of them, so that a challenge has
 * 34 bytes for each; the oldest used one makes room, and with that many unused ones no more are
 * made.
 */
export const ONCE_TOKENS_MAX = 256

/** The secret of a one-time token. */
export interface OnceSecret {
  readonly role: JoinRole
  /** 25 base-36 digits, as in `join-token.ts`. */
  readonly secret: string
  /** The node that was admitted with it; absent while it is unused. */
  readonly usedBy?: string
}

/** `list` with a new secret. @throws RESOURCE_EXHAUSTED with {@link ONCE_TOKENS_MAX} unused ones */
export function withOnceSecret(
  list: readonly OnceSecret[],
  made: Pick<OnceSecret, 'role' | 'secret'>,
): readonly OnceSecret[] {
  const room = list.length < ONCE_TOKENS_MAX ? list : withoutOldestUsed(list)
  return [...room, { role: made.role, secret: made.secret }]
}

/** `list` with `secret` used by the node `peerId`. @throws UNAUTHENTICATED used or void by now */
export function withUsedOnceSecret(
  list: readonly OnceSecret[],
  secret: string,
  peerId: string,
): readonly OnceSecret[] {
  const found = list.find((one) => one.secret === secret)
  if (found === undefined) {
    throw new SwarmError('UNAUTHENTICATED', 'join token: the secret is wrong or was rotated')
  }
  if (found.usedBy !== undefined) throw usedAlready()
  return list.map((one) => (one === found ? { ...one, usedBy: peerId } : one))
}

/** `list` without the unused secrets of `roles`, whose tokens are rotated. */
export function withoutUnused(
  list: readonly OnceSecret[],
  roles: { readonly [R in JoinRole]: boolean },
): readonly OnceSecret[] {
  return list.filter((one) => one.usedBy !== undefined || !roles[one.role])
}

/** Whether the node `peerId` was admitted with `secret`. */
export function isUsedBy(list: readonly OnceSecret[], secret: string, peerId: string): boolean {
  return list.some((one) => one.secret === secret && one.usedBy === peerId)
}

/** Reads the list out of a decoded box; undefined when it is malformed. */
export function decodeOnceSecrets(value: unknown): readonly OnceSecret[] | undefined {
  // Boxes that were sealed before there were one-time tokens have none.
  if (value === undefined) return []
  if (!Array.isArray(value)) return undefined
  const list: OnceSecret[] = []
  for (const item of value as readonly unknown[]) {
    if (!isRecord(item)) return undefined
    const { role, secret, usedBy } = item
    if ((role !== 'worker' && role !== 'manager') || typeof secret !== 'string') return undefined
    if (usedBy !== undefined && typeof usedBy !== 'string') return undefined
    list.push({ role, secret, ...(usedBy === undefined ? {} : { usedBy }) })
  }
  return list
}

/** What a node is told that comes with another node's one-time token. */
export function usedAlready(): SwarmError {
  return new SwarmError(
    'UNAUTHENTICATED',
    'join token: was used already; ask a manager for a new one',
  )
}

function withoutOldestUsed(list: readonly OnceSecret[]): readonly OnceSecret[] {
  const oldest = list.findIndex((one) => one.usedBy !== undefined)
  if (oldest < 0) {
    throw new SwarmError(
      'RESOURCE_EXHAUSTED',
      `join token: ${ONCE_TOKENS_MAX} one-time tokens are unused; ` +
        'use them, or rotate the join token of their role to void them',
    )
  }
  return list.toSpliced(oldest, 1)
}
