/**
 * The node's identity: one Ed25519 key, made once, kept as a 32-byte seed on disk. Node id and peer
 * id follow from it, so a node that keeps its data directory is the same node for ever.
 */
import type { Random } from '../base/random.ts'
import { ED25519_KEY_BYTES, signingKey, type SigningKey } from './ed25519.ts'
import { readKeyFile, writePrivateFile } from './key-file.ts'
import { nodeIdOf, peerIdOf } from './peer-id.ts'

/** The key pair with the names that follow from it. */
export interface NodeKey extends SigningKey {
  /** 25 base-36 digits. */
  readonly nodeId: string
  /** `12D3Koo…`. */
  readonly peerId: string
}

/** The identity that grows from `seed` (32 bytes). */
export function nodeKey(seed: Uint8Array): NodeKey {
  const key = signingKey(seed)
  return { ...key, nodeId: nodeIdOf(key.publicKey), peerId: peerIdOf(key.publicKey) }
}

/**
 * Reads the node's key at `path`, or makes and stores it when there is none.
 * @throws STORAGE_CORRUPT, STORAGE_FULL, INTERNAL
 */
export async function loadOrCreateNodeKey(path: string, random: Random): Promise<NodeKey> {
  const stored = await readKeyFile(path, ED25519_KEY_BYTES)
  if (stored !== undefined) return nodeKey(stored)
  const seed = random.bytes(ED25519_KEY_BYTES)
  await writePrivateFile(path, seed)
  return nodeKey(seed)
}
