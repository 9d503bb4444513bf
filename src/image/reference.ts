/**
 * Image references: what people write (`web`, `web:1`, `shop/web@sha256:…`, `host:5000/web:1`), the
 * canonical form that the tag table uses (`docker.io/library/web:1`), and the short form that
 * Docker prints (`web:1`).
 *
 * Source: the grammar of distribution/reference; a first component is a host when it contains `.`,
 * `:` or an upper-case letter or is `localhost`.
 */
import { SwarmError } from '../base/errors.ts'
import { isDigest } from './digest.ts'
import type { Digest } from './digest.ts'

/** A parsed reference. */
export interface ImageReference {
  /** With host and path: `docker.io/library/web`. */
  readonly name: string
  readonly tag?: string
  readonly digest?: Digest
}

/** The tag of a reference that names none. */
export const DEFAULT_TAG = 'latest'

/** Longest name, as in distribution/reference. */
const MAX_NAME_LENGTH = 255
const DEFAULT_HOST = 'docker.io'
const OFFICIAL_PREFIX = 'library/'
const PATH_FORM = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/
const HOST_FORM = /^(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/
const TAG_FORM = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/
const HEX_FORM = /^[0-9a-f]{64}$/

/** @throws INVALID_ARGUMENT with Docker's words for a malformed reference */
export function parseReference(text: string): ImageReference {
  const [beforeDigest = '', digest, ...more] = text.split('@')
  if (more.length > 0 || (digest !== undefined && !isDigest(digest))) throw malformed(text)
  const colon = beforeDigest.lastIndexOf(':')
  const hasTag = colon > beforeDigest.lastIndexOf('/')
  const name = canonicalName(hasTag ? beforeDigest.slice(0, colon) : beforeDigest, text)
  const tag = hasTag ? beforeDigest.slice(colon + 1) : undefined
  if (tag !== undefined && !TAG_FORM.test(tag)) throw malformed(text)
  return { name, ...(tag !== undefined && { tag }), ...(digest !== undefined && { digest }) }
}

/** As {@link parseReference}; undefined for a malformed reference. */
export function maybeReference(text: string): ImageReference | undefined {
  try {
    return parseReference(text)
  } catch (error) {
    if (error instanceof SwarmError) return undefined
    throw error
  }
}

/** The key of the tag table: name and tag, `latest` if none is given. */
export function canonicalTag(reference: ImageReference): string {
  return `${reference.name}:${reference.tag ?? DEFAULT_TAG}`
}

/** `docker.io/library/web:1` as Docker prints it: `web:1`. */
export function familiar(canonical: string): string {
  const hub = `${DEFAULT_HOST}/`
  if (!canonical.startsWith(hub)) return canonical
  const path = canonical.slice(hub.length)
  return path.startsWith(OFFICIAL_PREFIX) ? path.slice(OFFICIAL_PREFIX.length) : path
}

function canonicalName(name: string, whole: string): string {
  if (name.length === 0 || name.length > MAX_NAME_LENGTH || HEX_FORM.test(name)) {
    throw malformed(whole)
  }
  const slash = name.indexOf('/')
  const first = slash === -1 ? '' : name.slice(0, slash)
  const hasHost = /[.:A-Z]/.test(first) || first === 'localhost'
  const host = hasHost && first !== `index.${DEFAULT_HOST}` ? first : DEFAULT_HOST
  const path = hasHost ? name.slice(slash + 1) : name
  if (!HOST_FORM.test(host)) throw malformed(whole)
  if (!path.split('/').every((component) => PATH_FORM.test(component))) throw malformed(whole)
  if (host !== DEFAULT_HOST) return `${host}/${path}`
  return `${host}/${path.includes('/') ? path : OFFICIAL_PREFIX + path}`
}

function malformed(text: string): SwarmError {
  return new SwarmError(
    'INVALID_ARGUMENT',
    `image ${JSON.stringify(text)}: invalid reference format`,
  )
}
