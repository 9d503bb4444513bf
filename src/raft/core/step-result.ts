/**
 * What became of an input.
 *
 * - `dropped`: a proposal without a leader, during a transfer, or over a limit; repeat later.
 * - `refused`: a configuration change that the leader would not put into its log; an empty entry
 * stands
 *   there instead.
 * - `peerNotFound`: an answer from someone who is no member.
 * - `localMessage`: a kind that only this member may send itself.
 *
 * `ok` promises nothing beyond: what is proposed may still be lost with its leader.
 */
export type StepResult = 'ok' | 'dropped' | 'refused' | 'peerNotFound' | 'localMessage'
