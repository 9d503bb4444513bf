/**
 * How both ends prove that they know a join secret without sending it. The proof is an HMAC under
 * the secret over direction, both peer ids (which Noise has proven) and both nonces; so it is good
 * for one exchange between these two keys, and a proof of one direction is none for the other. The
 * manager sends one proof per role, and one per one-time token, and the joiner finds the one that
 * its secret gives; so a token does not tell its role, and the role never travels before it is
 * proven. Source: `reference/libp2p.md` §2.5.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { lengthPrefixed } from './fields.ts'
import type { JoinRole } from './join-token.ts'
import type { OnceSecret } from './once-secrets.ts'

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

/** What the manager's secrets are: one a role, and those of one-time tokens. */
export interface JoinSecrets {
  readonly worker: string
  readonly manager: string
  /** Used ones too: who comes with one of them is told so. */
  readonly once: readonly OnceSecret[]
}

/** What a joiner's proof stands for. */
export interface ProvenSecret {
  readonly role: JoinRole
  /** The one-time secret that was proven; absent for a role's own. Never logged. */
  readonly once?: string
}

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

/** What the joiner's `proof` proves; undefined when no secret made it. Tries all of them always. */
export function provenSecret(
  proof: Uint8Array,
  secrets: JoinSecrets,
  exchange: JoinExchange,
): ProvenSecret | undefined {
  const candidates: readonly (ProvenSecret & { readonly secret: string })[] = [
    { role: 'worker', secret: secrets.worker },
    { role: 'manager', secret: secrets.manager },
    ...secrets.once.map(({ role, secret }) => ({ role, secret, once: secret })),
  ]
  const [proven] = candidates.filter(({ secret }) => {
    return isJoinProof(proof, secret, 'joiner', exchange)
  })
  if (proven === undefined) return undefined
  const { role, once } = proven
  return once === undefined ? { role } : { role, once }
}
