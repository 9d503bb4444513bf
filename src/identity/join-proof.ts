/**
 * How both ends prove that they know a join secret without sending it. The proof is an HMAC under
 * the secret over direction, both peer ids (which Noise has proven) and both nonces; so it is good
 * for one exchange between these two keys, and a proof of one direction is none for the other. The
 * manager sends one proof per role and the joiner finds the one that its secret gives; so a token
 * does not tell its role, and the role never travels before it is proven. Source:
 * `reference/libp2p.md` §2.5.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { lengthPrefixed } from './fields.ts'

/** Bytes of each side's nonce. */
export const JOIN_NONCE_BYTES = 32

/** Who proves. */
export type JoinDirection = 'manager' | 'joiner'

/** The exchange that a proof is bound to, the same for both directions. */
export interface JoinExchange {
  readonly managerPeerId: string
  readonly joinerPeerId: string
  readonly managerNonce: Uint8Array
  readonly joinerNonce: Uint8Array
}

/** What the manager's secrets are, by role. */
export interface JoinSecrets {
  readonly worker: string
  readonly manager: string
}

/** A role in the swarm. */
export type JoinRole = keyof JoinSecrets

const PURPOSE = 'skein join 1'

/** The proof of `direction`'s side that it knows `secret`; 32 bytes. */
export function joinProof(
  secret: string,
  direction: JoinDirection,
  exchange: JoinExchange,
): Uint8Array {
  const { managerPeerId, joinerPeerId, managerNonce, joinerNonce } = exchange
  const fields = [PURPOSE, direction, managerPeerId, joinerPeerId, managerNonce, joinerNonce]
  return new Uint8Array(createHmac('sha256', secret).update(lengthPrefixed(fields)).digest())
}

/** Whether `proof` is that of `direction`'s side under `secret`; compared in constant time. */
export function isJoinProof(
  proof: Uint8Array,
  secret: string,
  direction: JoinDirection,
  exchange: JoinExchange,
): boolean {
  const expected = joinProof(secret, direction, exchange)
  return proof.length === expected.length && timingSafeEqual(proof, expected)
}

/** The role whose secret made the joiner's `proof`; undefined when none did. Tries both always. */
export function provenRole(
  proof: Uint8Array,
  secrets: JoinSecrets,
  exchange: JoinExchange,
): JoinRole | undefined {
  const worker = isJoinProof(proof, secrets.worker, 'joiner', exchange)
  const manager = isJoinProof(proof, secrets.manager, 'joiner', exchange)
  if (manager) return 'manager'
  return worker ? 'worker' : undefined
}
