/** What is missing and what is too much, between what the kernel has and what it should have. */

/** Two lists of the same kind. */
export interface Difference<H, W> {
  /** Wanted, and not there. */
  readonly missing: readonly W[]
  /** There, and not wanted. */
  readonly surplus: readonly H[]
}

/** Compares by text: equal texts are the same thing. */
export function difference<H, W>(
  have: readonly H[],
  want: readonly W[],
  textOf: { readonly have: (one: H) => string; readonly want: (one: W) => string },
): Difference<H, W> {
  const there = new Set(have.map(textOf.have))
  const wanted = new Set(want.map(textOf.want))
  return {
    missing: want.filter((one) => !there.has(textOf.want(one))),
    surplus: have.filter((one) => !wanted.has(textOf.have(one))),
  }
}
