/**
 * A member is replaced by one that has never been: the new one starts with empty stores, becomes a
 * learner, is promoted when it has caught up, and then the old one is removed. Each step is repeated
 * until a linearizable read shows that it is done: a call that failed may have taken effect.
 */
import { ask, type Member } from './member.ts'
import type { Answer, Change } from './protocol.ts'

type Configuration = Extract<Answer, { readonly type: 'configuration' }>

/** What a replacement is made with. */
export interface ReplacementParts {
  readonly old: Member
  readonly joining: Member
  /** The members before it; `old` among them. */
  readonly members: readonly Member[]
  /** Hurts somebody and leaves all running. */
  readonly disturb: () => Promise<void>
  /** Polls until the condition holds. @throws Error after the deadline */
  readonly until: (what: string, condition: () => Promise<boolean>) => Promise<void>
}

/** Resolves when `joining` is a voter and `old` is no member. */
export async function replaceMember(parts: ReplacementParts): Promise<void> {
  const { old, joining, disturb } = parts
  joining.start()
  await step(parts, 'addLearner', ({ learners, voters }) =>
    [...learners, ...voters].includes(joining.name),
  )
  await disturb()
  await step(parts, 'addVoter', ({ voters }) => voters.includes(joining.name))
  await disturb()
  await step(parts, 'removeServer', ({ voters }) => !voters.includes(old.name))
}

async function step(
  parts: ReplacementParts,
  change: Change,
  isDone: (configuration: Configuration) => boolean,
): Promise<void> {
  const { old, joining, until, members } = parts
  const { self } = change === 'removeServer' ? old : joining
  await until(`${change} ${self.name}`, async () => {
    for (const member of [...members, joining]) {
      const known = await ask(member, { type: 'configuration' })
      if (known?.type !== 'configuration') continue
      if (isDone(known)) return true
      break
    }
    // Whoever leads takes it, also the new member; the others refuse at once.
    for (const member of [...members, joining]) {
      const answer = await ask(member, { type: 'change', change, peer: self })
      if (answer?.type === 'done') break
    }
    return false
  })
}
