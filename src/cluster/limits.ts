/** Named limits of membership: unit, reason and what happens beyond. */

/** Longest wait for a proposal's outcome, retries included; then TIMED_OUT or NO_LEADER. */
export const PROPOSE_TIMEOUT_MS = 8_000

/** Wait before a proposal is tried again after a leader change. */
export const PROPOSE_RETRY_MS = 25

/**
 * Longest single try at one leader; a leader that cannot commit must not hold the caller longer.
 */
export const PROPOSE_ATTEMPT_TIMEOUT_MS = 4_000

/** Longest wait of `swarm init` for its own election. */
export const INIT_TIMEOUT_MS = 20_000

/** Longest wait of `swarm join` for the replica to catch up; the join itself stands and goes on. */
export const JOIN_CATCH_UP_TIMEOUT_MS = 20_000

/** Longest wait of `swarm leave` for the leader's answer; the node leaves all the same. */
export const LEAVE_NOTICE_TIMEOUT_MS = 4_000

/**
 * Rounds of a proposal that others get ahead of. One of the rivals wins each round: enough for
 * seven managers that each admit as many nodes at once as they take (16), all with one-time tokens.
 */
export const CONTENDED_ATTEMPTS_MAX = 128

/**
 * Pause before the leader tries a failed membership change again, and longest pause before it looks
 * whether a node that waits for its promotion has caught up.
 */
export const ROLE_RETRY_MS = 500

/** First pause before what waits is looked at again; doubles up to `ROLE_RETRY_MS`. */
export const ROLE_RETRY_MIN_MS = 25

/**
 * Entries that a learner may lack to be promoted: on a busy leader some are always on their way.
 */
export const PROMOTION_BEHIND_MAX = 100

/** Longest wait for one membership change. */
export const ROLE_CHANGE_TIMEOUT_MS = 10_000

/** Prefix length of a node's container subnet, when `swarm init` names none: 253 tasks a node. */
export const SUBNET_SIZE_DEFAULT = 24
/**
 * Ticks of Raft (100 ms) between the leader's heartbeats to a worker: with hundreds of workers they
 * are most of an idle leader's messages. Two may be late before a worker thinks of no leader.
 */
export const WORKER_HEARTBEAT_TICKS = 4
