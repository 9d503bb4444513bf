/**
 * Names that follow from a node's public key: libp2p's peer id, and the node id in Docker's shape.
 * The peer id of an Ed25519 key is base58btc of an identity multihash over the key's protobuf, so
 * it carries the whole key: whoever knows the peer id can check signatures.
 * Source: libp2p specs, `peer-ids/peer-ids.md`.
 */
import { createHash } from 'node:crypto'
import { base36, IDENTIFIER_BYTES, IDENTIFIER_DIGITS } from '../base/identifiers.ts'

const BASE58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz'

/** Identity multihash (code 0, 36 bytes) of protobuf { type: Ed25519 (1), data: 32 bytes }. */
const PEER_ID_PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20)

/** `12D3Koo…` of a public key of 32 bytes. */
export function peerIdOf(publicKey: Uint8Array): string {
  return base58(Buffer.concat([PEER_ID_PREFIX, publicKey]))
}

/** The node id: 25 base-36 digits of the first 16 bytes of the key's SHA-256. */
export function nodeIdOf(publicKey: Uint8Array): string {
  const hash = createHash('sha256').update(publicKey).digest()
  return base36(hash.subarray(0, IDENTIFIER_BYTES), IDENTIFIER_DIGITS)
}

function base58(bytes: Uint8Array): string {
  let value = 0n
  for (const byte of bytes) value = (value << 8n) | BigInt(byte)
  let text = ''
  while (value > 0n) {
    text = BASE58.charAt(Number(value % 58n)) + text
    value /= 58n
  }
  const zeros = bytes.findIndex((byte) => byte !== 0)
  return '1'.repeat(zeros === -1 ? bytes.length : zeros) + text
}
