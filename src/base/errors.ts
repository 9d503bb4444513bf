/**
 * Operating errors: everything that can go wrong without a bug. Callers compare `code`, never
 * texts. A message begins with its subject (`service "web": name is taken`). One table maps codes
 * to HTTP status and exit code, at the edge (`src/api/status.ts`).
 */

/**
 * Each code: when it happens, and what the caller does. A new one only where a caller reacts
 * differently.
 */
export const ERROR_CODES = {
  INVALID_ARGUMENT: 'the input is malformed or out of range; correct it',
  NOT_FOUND: 'the named object does not exist; check the name',
  ALREADY_EXISTS: 'the name is taken; choose another or remove the old object',
  OUT_OF_SEQUENCE: 'the object changed since it was read; read it again and repeat',
  FAILED_PRECONDITION: 'the state of the object forbids this; change that first',
  PERMISSION_DENIED: 'the caller may not do this; ask a member with the right role',
  UNAUTHENTICATED: 'the proof of identity or token failed; use a valid join token',
  UNIMPLEMENTED: 'this part of the API is not built; see the status table in the README',
  UNAVAILABLE: 'a needed peer or component cannot be reached now; repeat later',
  NOT_SWARM_MEMBER: 'this node is in no swarm; run `skein swarm init` or `skein swarm join`',
  ALREADY_SWARM_MEMBER: 'this node is in a swarm already; leave it first',
  NOT_MANAGER: 'this node is a worker; run the command on a manager',
  NO_LEADER: 'no leader, usually because too few managers are reachable; wait or restore them',
  NOT_LEADER: 'this node does not lead; ask the leader',
  TIMED_OUT:
    'no answer within the time; a write may still take effect, repeat it with the same request id',
  ABORTED: 'the caller withdrew the call',
  RESOURCE_EXHAUSTED: 'a named limit is reached; free something or raise the limit',
  STORAGE_FULL: 'the disk is full; free space, then start the node again',
  STORAGE_CORRUPT: 'durable data is damaged; follow docs/recovery.md',
  RUNTIME_FAILED: 'the container runtime refused; its message follows',
  SHUTTING_DOWN: 'the component stops; ask another node',
  INTERNAL: 'an error that has no better code; its cause follows',
} as const

/** Stable identifier of an operating error. */
export type ErrorCode = keyof typeof ERROR_CODES

/** An operating error with a stable code. */
export class SwarmError extends Error {
  override readonly name = 'SwarmError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}

/** Whether `error` is a {@link SwarmError}, with the given code if one is named. */
export function isSwarmError(error: unknown, code?: ErrorCode): error is SwarmError {
  return error instanceof SwarmError && (code === undefined || error.code === code)
}

/** The text of any thrown value, causes joined by `: `. */
export function errorText(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.cause === undefined) return error.message
  return `${error.message}: ${errorText(error.cause)}`
}
