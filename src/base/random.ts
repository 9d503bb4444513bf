/**
 * Randomness as a component, so that a seed reproduces a run. `systemRandom` is named in `node.ts`
 * alone; simulations and tests use `seededRandom`.
 */
import { randomBytes, randomInt } from 'node:crypto'

/** A source of random numbers. */
export interface Random {
  /** An integer in [0, bound). `bound` is at most 2^32. */
  integer(bound: number): number
  /** `length` random bytes. */
  bytes(length: number): Uint8Array
}

/** The operating system's generator: for keys, secrets, identifiers. */
export const systemRandom: Random = {
  integer: (bound) => randomInt(bound),
  bytes: (length) => new Uint8Array(randomBytes(length)),
}

/**
 * A deterministic generator (xoshiro128**, seeded through splitmix32; Blackman and Vigna,
 * prng.di.unimi.it). Not for secrets.
 */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0
  const mix = (): number => {
    state = (state + 0x9e3779b9) >>> 0
    let z = state
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
    return (z ^ (z >>> 16)) >>> 0
  }
  let a = mix()
  let b = mix()
  let c = mix()
  let d = mix()
  const next = (): number => {
    const result = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0
    const shifted = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= shifted
    d = rotate(d, 11)
    return result
  }
  return {
    integer: (bound) => Math.floor((next() / 2 ** 32) * bound),
    bytes: (length) => Uint8Array.from({ length }, () => next() & 0xff),
  }
}

/** `x` as 32 bits, rotated left. */
function rotate(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits))
}
