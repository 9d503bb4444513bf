/**
 * Proposals that read an object and write it back: when another proposal wrote it in between, the
 * state machine refuses them (OUT_OF_SEQUENCE), and they are derived anew from what stands there
 * now.
 */
import { SwarmError, isSwarmError } from '../base/errors.ts'
import type { Action, Proposer } from '../store/transaction.ts'
import { CONTENDED_ATTEMPTS_MAX } from './limits.ts'

/**
 * Proposes what `derive` makes of the store as it is, until it takes effect or is refused for
 * another reason than that of `isContention`. A refusal is applied here before it is reported, so
 * each round sees who won the last one.
 * @throws what `derive` or `propose` throws, RESOURCE_EXHAUSTED after `CONTENDED_ATTEMPTS_MAX`
 * rounds
 */
export async function proposeContended(
  proposer: Proposer,
  derive: () => readonly Action[],
  isContention: (error: unknown) => boolean = isOutOfSequence,
): Promise<void> {
  let last: unknown
  for (let attempt = 0; attempt < CONTENDED_ATTEMPTS_MAX; attempt += 1) {
    const actions = derive()
    try {
      await proposer.propose(actions)
      return
    } catch (error) {
      if (!isContention(error)) throw error
      last = error
    }
  }
  const message = 'swarm: too many change it at the same time; try again shortly'
  throw new SwarmError('RESOURCE_EXHAUSTED', message, { cause: last })
}

/** Whether the object changed since it was read. */
export function isOutOfSequence(error: unknown): boolean {
  return isSwarmError(error, 'OUT_OF_SEQUENCE')
}
