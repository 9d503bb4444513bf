/**
 * A manager's certificate: the root key's word that a peer id belongs to a manager of this cluster.
 * There are no dates in it, since clocks cannot be trusted; what is no longer valid is so because
 * the replicated membership says so. `serial` tells issues apart (the Raft index or a counter).
 */
import { decode, encode } from 'msgpackr'
import { errorText, SwarmError } from '../base/errors.ts'
import { type SigningKey, verifySignature } from './ed25519.ts'
import { isRecord, lengthPrefixed } from './fields.ts'

const PURPOSE = 'skein manager certificate 1'

/** Largest certificate that is looked at. */
export const CERTIFICATE_BYTES_MAX = 512

/** What a certificate says. */
export interface Certificate {
  readonly peerId: string
  readonly role: 'manager'
  readonly serial: number
}

/** Signs `certificate` with the root key; the result is stored in the manager's node record. */
export function issueCertificate(root: SigningKey, certificate: Certificate): Uint8Array {
  const signature = root.sign(signedBytes(certificate))
  return Uint8Array.from(encode({ ...certificate, signature }))
}

/**
 * What `bytes` attest, once the signature is that of `rootPublicKey`.
 * @throws UNAUTHENTICATED malformed, or signed by another key
 */
export function verifyCertificate(rootPublicKey: Uint8Array, bytes: Uint8Array): Certificate {
  const { certificate, signature } = decodeCertificate(bytes)
  if (!verifySignature(rootPublicKey, signedBytes(certificate), signature)) {
    throw unauthenticated('is not signed by the root key of this cluster')
  }
  return certificate
}

function decodeCertificate(bytes: Uint8Array): {
  certificate: Certificate
  signature: Uint8Array
} {
  if (bytes.length > CERTIFICATE_BYTES_MAX) throw unauthenticated('is too large')
  const value = decodeOrRefuse(bytes)
  if (
    !isRecord(value) ||
    typeof value['peerId'] !== 'string' ||
    value['role'] !== 'manager' ||
    !Number.isSafeInteger(value['serial']) ||
    !(value['signature'] instanceof Uint8Array)
  ) {
    throw unauthenticated('is malformed')
  }
  const certificate: Certificate = {
    peerId: value['peerId'],
    role: 'manager',
    serial: Number(value['serial']),
  }
  return { certificate, signature: value['signature'] }
}

function decodeOrRefuse(bytes: Uint8Array): unknown {
  try {
    return decode(bytes)
  } catch (error) {
    throw unauthenticated(`is malformed (${errorText(error)})`)
  }
}

function signedBytes(certificate: Certificate): Uint8Array {
  const { peerId, role, serial } = certificate
  return lengthPrefixed([PURPOSE, peerId, role, String(serial)])
}

function unauthenticated(reason: string): SwarmError {
  return new SwarmError('UNAUTHENTICATED', `manager certificate: ${reason}`)
}
