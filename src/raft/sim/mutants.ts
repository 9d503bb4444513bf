/**
 * Mistakes that others made (reference/raft.md §1.2), one by one, as changes of the production
 * source. The simulator must find each of them: that is its measure. `mutation-loader.ts` makes
 * the change while the source is loaded; production code knows nothing of it. A test checks that
 * each change still has its place.
 */
import { coreMutants } from './mutants-core.ts'
import { leaseMutants } from './mutants-lease.ts'
import { membershipMutants } from './mutants-membership.ts'
import { operatorMutants } from './mutants-operators.ts'
import { runtimeMutants } from './mutants-runtime.ts'
import type { Mutant } from './mutant.ts'

/** All mistakes, by family. */
export const MUTANTS: readonly Mutant[] = [
  ...coreMutants,
  ...membershipMutants,
  ...runtimeMutants,
  ...leaseMutants,
  ...operatorMutants,
].toSorted((a, b) => a.family - b.family)

/** The mistake of this name. */
export function mutantNamed(name: string): Mutant | undefined {
  return MUTANTS.find((mutant) => mutant.name === name)
}
