/**
 * The one table from error codes to HTTP status. Docker's choices where it has one (its
 * not-a-manager, already-a-member and locked answers are 503), a better one where Docker's is a
 * plain 500: a stale version is 409, a missing leader 503.
 * Source: moby `daemon/cluster/errors.go`, recorded answers 003, 208, 223, 282, 605-619.
 */
import { isSwarmError, errorText } from '../base/errors.ts'
import type { ErrorCode } from '../base/errors.ts'

/** HTTP status of each code. */
export const HTTP_STATUS: Readonly<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  OUT_OF_SEQUENCE: 409,
  FAILED_PRECONDITION: 400,
  PERMISSION_DENIED: 403,
  UNAUTHENTICATED: 400,
  UNIMPLEMENTED: 501,
  UNAVAILABLE: 503,
  NOT_SWARM_MEMBER: 503,
  ALREADY_SWARM_MEMBER: 503,
  NOT_MANAGER: 503,
  NO_LEADER: 503,
  NOT_LEADER: 503,
  TIMED_OUT: 504,
  ABORTED: 503,
  RESOURCE_EXHAUSTED: 503,
  STORAGE_FULL: 507,
  STORAGE_CORRUPT: 500,
  RUNTIME_FAILED: 500,
  SHUTTING_DOWN: 503,
  INTERNAL: 500,
}

/** Docker's words for what clients know by text; other codes keep their own message. */
const DOCKER_TEXT: Partial<Record<ErrorCode, string>> = {
  ALREADY_SWARM_MEMBER:
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
  NOT_SWARM_MEMBER: 'This node is not part of a swarm',
  NO_LEADER:
    "The swarm does not have a leader. It's possible that too few managers are online. " +
    'Make sure more than half of the managers are online.',
  OUT_OF_SEQUENCE: 'update out of sequence',
}

/** Docker's refusal of a manager's command on a node that is in no swarm. */
export const NOT_IN_SWARM_TEXT =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect ' +
  'this node to swarm and try again.'

/** Docker's refusal of a manager's command on a worker. */
export const WORKER_TEXT =
  "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. " +
  'Please run this command on a manager node or promote the current node to a manager.'

/** Status and message of an error, as they go to the client. */
export function errorAnswer(error: unknown): { readonly status: number; readonly message: string } {
  if (!isSwarmError(error)) return { status: 500, message: errorText(error) }
  return {
    status: HTTP_STATUS[error.code],
    message: DOCKER_TEXT[error.code] ?? errorText(error),
  }
}
