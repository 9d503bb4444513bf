/**
 * Which replica a client belongs to, by its address alone: the same on every node of a cluster, in
 * the kernel's table and in userspace. Pure.
 *
 * A client has a slot by the hash that nftables computes (`jhash`), a slot has a replica by
 * Maglev's table. So nodes whose drivers differ agree, while they know the same replicas. The
 * kernel reads an IPv6 address in its own byte order: nodes of the other choose differently there.
 *
 * Source of the hash: Bob Jenkins, "lookup3", as `include/linux/jhash.h` and `net/netfilter/
 * nft_hash.c` have it; the tests compare with the kernel.
 */
import { maglevTable } from './maglev.ts'
import { addressBytes } from './netlink/address.ts'
import { hostOrder } from './netlink/byte-order.ts'

/** Seed of the hash, the same everywhere. */
export const HASH_SEED = 0x5be1_a5ed

/** Sizes of tables: primes, as Maglev's table wants. */
export const HASH_SLOTS = [251, 1021, 4093] as const
/** Slots for each replica; fewer make shares less even. */
const SLOTS_PER_REPLICA = 10

/** Initial value of `jhash`. */
const INITIAL = 0xdead_beef
const WORD_BYTES = 4
const BLOCK_BYTES = 12

/** For each slot the index of a replica. `names` are all of a service's replicas that serve. */
export function affinityTable(names: readonly string[]): readonly number[] {
  const wanted = names.length * SLOTS_PER_REPLICA
  return maglevTable(names, HASH_SLOTS.find((slots) => slots >= wanted) ?? HASH_SLOTS[2])
}

/** The slot of a client in a table of that size. @throws INVALID_ARGUMENT when it is no address */
export function clientSlot(address: string, slots: number): number {
  const scaled = BigInt(jhash(addressBytes(address), HASH_SEED)) * BigInt(slots)
  return Number(scaled >> 32n)
}

/** A 32-bit hash of whole words. */
function jhash(bytes: Uint8Array, seed: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const start = (INITIAL + bytes.length + seed) | 0
  const state: State = [start, start, start]
  let offset = 0
  for (; bytes.length - offset > BLOCK_BYTES; offset += BLOCK_BYTES) {
    for (const word of [0, 1, 2] as const) {
      state[word] = (state[word] + hostOrder.u32(view, offset + word * WORD_BYTES)) | 0
    }
    for (const [x, y, z, bits] of MIXING) {
      state[x] = (state[x] - state[z]) ^ rotated(state[z], bits)
      state[z] = (state[z] + state[y]) | 0
    }
  }
  // The rest is read in the order of little-endian machines on every one.
  for (const word of [0, 1, 2] as const) {
    const place = offset + word * WORD_BYTES
    if (place < bytes.length) state[word] = (state[word] + view.getUint32(place, true)) | 0
  }
  for (const [x, y, bits] of FINISHING) {
    state[x] = ((state[x] ^ state[y]) - rotated(state[y], bits)) | 0
  }
  return state[2] >>> 0
}

type State = [number, number, number]
type Word = 0 | 1 | 2

/** Steps of the mixing of a block: `x = (x - z) ^ rot(z, bits)`, then `z += y`. */
const MIXING: readonly (readonly [x: Word, y: Word, z: Word, bits: number])[] = [
  [0, 1, 2, 4],
  [1, 2, 0, 6],
  [2, 0, 1, 8],
  [0, 1, 2, 16],
  [1, 2, 0, 19],
  [2, 0, 1, 4],
]

/** Steps of the last mixing: `x = (x ^ y) - rot(y, bits)`. */
const FINISHING: readonly (readonly [x: Word, y: Word, bits: number])[] = [
  [2, 1, 14],
  [0, 2, 11],
  [1, 0, 25],
  [2, 1, 16],
  [0, 2, 4],
  [1, 0, 14],
  [2, 1, 24],
]

function rotated(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits))
}
