/**
 * The join protocol's messages:
 *
 *   joiner → manager  hello      version, nonce
 *   manager → joiner  challenge  root public key, certificate, nonce, a proof for each secret
 *   joiner → manager  proof      proof, what the joiner says of itself
 *   manager → joiner  admitted   what a member must know
 *   at any time the manager may answer `refused` and end.
 *
 * The manager proves first, and before the joiner has said anything but a random number; so a
 * stranger in a manager's place learns nothing that it could use elsewhere.
 */
import { decode, encode } from 'msgpackr'
import { errorText, isSwarmError, SwarmError } from '../base/errors.ts'
import { ONCE_TOKENS_MAX } from '../identity/once-secrets.ts'
import { asFields, binary, integer, text } from './control-message.ts'

/** Strangers reach this protocol and no other. */
export const JOIN_PROTOCOL = '/skein/join/1'
/** Version that both ends must speak. */
export const JOIN_VERSION = 1
/** Each message before the admission. */
export const JOIN_MESSAGE_BYTES_MAX = 64 * 1024
/** The admission lists all members: 1,000 of them need about 300 KiB. */
export const ADMISSION_BYTES_MAX = 4 * 1024 * 1024

/** Any message of the join protocol. */
export type JoinMessage =
  | { readonly type: 'hello'; readonly version: number; readonly nonce: Uint8Array }
  | JoinChallenge
  | { readonly type: 'proof'; readonly proof: Uint8Array; readonly details: unknown }
  | { readonly type: 'admitted'; readonly admission: unknown }
  | { readonly type: 'refused'; readonly code: string; readonly message: string }

/** What a manager says of itself. */
export interface JoinChallenge {
  readonly type: 'challenge'
  readonly rootPublicKey: Uint8Array
  readonly certificate: Uint8Array
  readonly nonce: Uint8Array
  readonly workerProof: Uint8Array
  readonly managerProof: Uint8Array
  /** For the one-time tokens' secrets; at most `ONCE_TOKENS_MAX`. */
  readonly onceProofs: readonly Uint8Array[]
}

/** The bytes of `message`. */
export function encodeJoin(message: JoinMessage): Uint8Array {
  return encode(message)
}

/**
 * Reads a message. @throws UNAUTHENTICATED malformed: the other side does not speak the protocol
 */
export function decodeJoin(bytes: Uint8Array): JoinMessage {
  try {
    return decodeFields(asFields(decode(Uint8Array.from(bytes))))
  } catch (error) {
    const cause = isSwarmError(error) ? error.message : errorText(error)
    throw new SwarmError('UNAUTHENTICATED', `join: malformed message (${cause})`)
  }
}

function decodeFields(fields: Readonly<Record<string, unknown>>): JoinMessage {
  switch (fields['type']) {
    case 'hello':
      return {
        type: 'hello',
        version: integer(fields, 'version'),
        nonce: binary(fields, 'nonce'),
      }
    case 'challenge':
      return {
        type: 'challenge',
        rootPublicKey: binary(fields, 'rootPublicKey'),
        certificate: binary(fields, 'certificate'),
        nonce: binary(fields, 'nonce'),
        workerProof: binary(fields, 'workerProof'),
        managerProof: binary(fields, 'managerProof'),
        onceProofs: onceProofs(fields['onceProofs']),
      }
    case 'proof':
      return { type: 'proof', proof: binary(fields, 'proof'), details: fields['details'] }
    case 'admitted':
      return { type: 'admitted', admission: fields['admission'] }
    case 'refused':
      return { type: 'refused', code: text(fields, 'code'), message: text(fields, 'message') }
    default:
      throw new SwarmError('UNAUTHENTICATED', 'unknown type')
  }
}

/** A manager that knows of no one-time tokens sends none. */
function onceProofs(value: unknown): readonly Uint8Array[] {
  if (value === undefined) return []
  if (!Array.isArray(value) || value.length > ONCE_TOKENS_MAX) {
    throw new SwarmError('UNAUTHENTICATED', 'field onceProofs is no list, or too long')
  }
  return value.map((proof: unknown) => binary({ proof }, 'proof'))
}
