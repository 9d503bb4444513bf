/**
 * API versions: Skein speaks Docker's 1.24 to 1.50 under one set of handlers. A path without a
 * version means the newest. Source: Docker Engine API, "Versioning"; recorded answers 601-603.
 */
import { SwarmError } from '../base/errors.ts'

/** Newest version that is spoken; what the docker CLI negotiates down to. */
export const API_VERSION_MAX = '1.50'

/** Oldest version that is spoken. */
export const API_VERSION_MIN = '1.24'

const VERSION_PREFIX = /^\/v(\d+\.\d+)(?=\/|$)/

/** Negative, zero or positive as version `a` is older than, equal to, or newer than `b`. */
export function compareVersions(a: string, b: string): number {
  const [majorA = 0, minorA = 0] = a.split('.').map(Number)
  const [majorB = 0, minorB = 0] = b.split('.').map(Number)
  return majorA - majorB || minorA - minorB
}

/**
 * Splits `/v1.41/nodes` into version and path.
 * @throws INVALID_ARGUMENT for a version outside the range, in Docker's words
 */
export function splitVersion(path: string): { readonly version: string; readonly path: string } {
  const match = VERSION_PREFIX.exec(path)
  if (match === null) return { version: API_VERSION_MAX, path }
  const [prefix, version = ''] = match
  if (compareVersions(version, API_VERSION_MAX) > 0) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `client version ${version} is too new. Maximum supported API version is ${API_VERSION_MAX}`,
    )
  }
  if (compareVersions(version, API_VERSION_MIN) < 0) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `client version ${version} is too old. Minimum supported API version is ${API_VERSION_MIN}, ` +
        'please upgrade your client to a newer version',
    )
  }
  return { version, path: path.slice(prefix.length) || '/' }
}
