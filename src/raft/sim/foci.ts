/** The situations that a run can be about. */
/** Situations. */
export const FOCI = [
  /** A leader is cut off while its clients go on writing; messages are small. */
  'stranded',
  /** A slow disk, links that lose what is large, and leaders that do not last. */
  'flapping',
  /** Applying takes long, and everything restarts in the middle of it. */
  'slowMachine',
  /** Disks are slower than the patience of callers. */
  'impatient',
  /** Members are replaced, and the network parts between old and new ones. */
  'reshaping',
  /** Readers restart while answers to them are still on their way, some of them twice. */
  'lateAnswers',
  /** Leadership goes to a member with a slow disk, which then crashes. */
  'slowWinner',
  /** Elections fail in bad weather, an old leader holds a long tail, a voter never returns. */
  'standoff',
] as const

/** Situations that operators and sharp-eyed clients are part of: they bring their operations. */
export const OPERATED_FOCI = [
  /** A leader is cut off; its clock and those of the others are as far apart as leases allow. */
  'clocksApart',
  /** Some voters have lost the leader and want another; those who still hear it restart. */
  'halfHeard',
  /** A state is brought from outside while members change or leadership moves. */
  'broughtState',
] as const

/** What happens to a group that its leader leaves. */
export const PARTING_FOCI = [
  /** A leader takes itself out, and what it says last reaches nobody. */
  'lastWord',
] as const

export type Focus =
  | (typeof FOCI)[number]
  | (typeof OPERATED_FOCI)[number]
  | (typeof PARTING_FOCI)[number]
