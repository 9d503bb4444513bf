/**
 * Join tokens in Docker's shape, `SWMTKN-1-<digest>-<secret>`: 50 base-36 digits that name the
 * cluster's root key, 25 that are the secret of a role. The token does not say which role: the
 * manager that knows both secrets does. Source: swarmkit `ca/config.go` (`GenerateJoinToken`,
 * `ParseJoinToken`).
 */
import { SwarmError } from '../base/errors.ts'
import { IDENTIFIER_DIGITS, newIdentifier } from '../base/identifiers.ts'
import type { Random } from '../base/random.ts'
import { ROOT_DIGEST_DIGITS, rootDigest } from './cluster-root.ts'

const PREFIX = 'SWMTKN'
const VERSION = '1'
const BASE36 = /^[0-9a-z]+$/

/** What a token admits as. */
export type JoinRole = 'worker' | 'manager'

/** The two halves of a token. */
export interface JoinToken {
  /** `rootDigest` of the cluster to join. */
  readonly rootDigest: string
  /** 25 base-36 digits; never sent, never logged. */
  readonly secret: string
}

/** A new secret of a role: 128 random bits as 25 base-36 digits. */
export function newJoinSecret(random: Random): string {
  return newIdentifier(random)
}

/** The token that admits to the cluster of `rootPublicKey` in the role of `secret`. */
export function formatJoinToken(rootPublicKey: Uint8Array, secret: string): string {
  return [PREFIX, VERSION, rootDigest(rootPublicKey), secret].join('-')
}

/** Reads a token. The error never repeats the secret. @throws INVALID_ARGUMENT */
export function parseJoinToken(text: string): JoinToken {
  const [prefix, version, digest, secret, ...rest] = text.trim().split('-')
  if (prefix !== PREFIX) {
    throw invalid(`does not begin with ${PREFIX}; \`swarm join-token\` on a manager shows it`)
  }
  if (version !== VERSION) throw invalid(`has version ${version ?? 'none'} instead of ${VERSION}`)
  if (digest === undefined || secret === undefined || rest.length > 0) {
    throw invalid('needs four parts: SWMTKN-1-<digest>-<secret>')
  }
  checkPart('digest', digest, ROOT_DIGEST_DIGITS)
  checkPart('secret', secret, IDENTIFIER_DIGITS)
  return { rootDigest: digest, secret }
}

function checkPart(name: string, digits: string, length: number): void {
  if (digits.length !== length) {
    throw invalid(`has a ${name} of ${digits.length} characters instead of ${length}`)
  }
  if (!BASE36.test(digits)) throw invalid(`has a ${name} with characters outside 0-9 and a-z`)
}

function invalid(reason: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `join token: ${reason}`)
}
