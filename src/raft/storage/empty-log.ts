/** The starting points of a log: nothing known, nobody a member. */
import type { ConfState, HardState } from '../core/entry.ts'
import type { LogContents } from './ports.ts'

export const EMPTY_CONFIGURATION: ConfState = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
}

export const EMPTY_HARD_STATE: HardState = { term: 0, vote: 0, commit: 0 }

export const EMPTY_BASE: LogContents['base'] = { index: 0, term: 0, conf: EMPTY_CONFIGURATION }
