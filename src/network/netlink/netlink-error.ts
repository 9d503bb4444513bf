/**
 * Errors of netlink: the kernel's errno by name, what was asked, and the kernel's own words when it
 * has any (`NETLINK_EXT_ACK`). Callers compare `errno` or `code`, never texts.
 *
 * `ENOBUFS` is special: answers were lost, but everything that was sent has been executed. Whoever
 * gets it reads the kernel's state again and computes what is left to do; repeating blindly is
 * wrong.
 */
import { constants } from 'node:os'
import { SwarmError } from '../../base/errors.ts'
import type { ErrorCode } from '../../base/errors.ts'

/** Second names of numbers that have a better one. */
const ALIASES: ReadonlySet<string> = new Set(['ENOTSUP', 'EWOULDBLOCK'])

/** Linux numbers that Node does not name. */
const MORE: readonly (readonly [number, string])[] = [[85, 'ERESTART']]

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map([
  ...MORE,
  ...Object.entries(constants.errno)
    .filter(([name]) => !ALIASES.has(name))
    .map(([name, number]): [number, string] => [number, name]),
])

/** `ESRCH` of 3; `E<number>` for one without a name. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES.get(errno) ?? `E${errno}`
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  EPERM: 'PERMISSION_DENIED',
  EACCES: 'PERMISSION_DENIED',
  ENOENT: 'NOT_FOUND',
  ESRCH: 'NOT_FOUND',
  ENODEV: 'NOT_FOUND',
  ENXIO: 'NOT_FOUND',
  EADDRNOTAVAIL: 'NOT_FOUND',
  EEXIST: 'ALREADY_EXISTS',
  EINVAL: 'INVALID_ARGUMENT',
  ERANGE: 'INVALID_ARGUMENT',
  EMSGSIZE: 'INVALID_ARGUMENT',
  EBUSY: 'FAILED_PRECONDITION',
  ENETDOWN: 'FAILED_PRECONDITION',
  ENETUNREACH: 'FAILED_PRECONDITION',
  EHOSTUNREACH: 'FAILED_PRECONDITION',
  EOPNOTSUPP: 'UNIMPLEMENTED',
  EPROTONOSUPPORT: 'UNIMPLEMENTED',
  EAFNOSUPPORT: 'UNIMPLEMENTED',
  EINTR: 'UNAVAILABLE',
  ERESTART: 'OUT_OF_SEQUENCE',
  ETIMEDOUT: 'TIMED_OUT',
  ENOBUFS: 'RESOURCE_EXHAUSTED',
  ENOMEM: 'RESOURCE_EXHAUSTED',
  ENOSPC: 'RESOURCE_EXHAUSTED',
  EOVERFLOW: 'RESOURCE_EXHAUSTED',
  ECANCELED: 'SHUTTING_DOWN',
  EBADF: 'SHUTTING_DOWN',
}

/** The kernel, or the addon, refused. */
export class NetlinkError extends SwarmError {
  /** Name of the error number: `ESRCH`. */
  readonly errno: string
  /** What was asked, as the request calls it. */
  readonly operation: string
  /** The kernel's own explanation, if it gave one. */
  readonly detail: string | undefined

  constructor(errno: string, operation: string, detail?: string, cause?: unknown) {
    const text = detail === undefined ? errno : `${errno} (${detail})`
    super(CODES[errno] ?? 'INTERNAL', `${operation}: ${text}`, cause === undefined ? {} : { cause })
    this.errno = errno
    this.operation = operation
    this.detail = detail
  }
}

/**
 * Whether `error` is a {@link NetlinkError}, with one of the given errno names if any are named.
 */
export function isNetlinkError(
  error: unknown,
  ...errnos: readonly string[]
): error is NetlinkError {
  return error instanceof NetlinkError && (errnos.length === 0 || errnos.includes(error.errno))
}

/** The error of bytes that are no netlink, or not what they should be. */
export function malformed(what: string): NetlinkError {
  return new NetlinkError('EBADMSG', 'decode netlink', what)
}

/** What the addon threw, as a {@link NetlinkError}; anything else as it is. */
export function fromNative(error: unknown, operation: string): unknown {
  if (!(error instanceof Error) || !('errno' in error)) return error
  return new NetlinkError(errnoName(Number(error.errno)), operation, undefined, error)
}
