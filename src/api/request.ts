/**
 * One request as handlers see it: path parameters, query, body and a signal that aborts when the
 * client goes away or the server closes. Bodies are bounded; JSON `null` means "absent", as in Go.
 */
import type { Readable } from 'node:stream'
import { SwarmError } from '../base/errors.ts'

/**
 * Most bytes of a JSON body: 4 MiB; more is INVALID_ARGUMENT. A transaction takes 1.5 MiB at most.
 */
export const JSON_BODY_BYTES_MAX = 4 * 1024 * 1024

/** What a handler is given. */
export interface ApiRequest {
  readonly method: string
  /** Without version prefix. */
  readonly path: string
  readonly parameters: Readonly<Record<string, string>>
  readonly query: URLSearchParams
  readonly body: Readable
  /** Aborts when the client is gone or the server closes. */
  readonly signal: AbortSignal
  /** Names this call's intent: the client's `Skein-Request-Id`, else a new one. */
  readonly requestId: string
}

/** The named path parameter, which the route's pattern has. */
export function parameter(request: ApiRequest, name: string): string {
  return request.parameters[name] ?? ''
}

/** Docker's boolean query values: anything but empty, `0`, `false`, `no`, `none` is true. */
export function flag(request: ApiRequest, name: string): boolean {
  const value = (request.query.get(name) ?? '').trim().toLowerCase()
  return !['', '0', 'no', 'false', 'none'].includes(value)
}

/**
 * The `version` query parameter of an optimistic write.
 * @throws INVALID_ARGUMENT when it is absent or no number, in Docker's words
 */
export function versionParameter(request: ApiRequest, subject: string): number {
  const text = request.query.get('version') ?? ''
  if (!/^\d{1,15}$/.test(text)) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `invalid ${subject} version '${text}': strconv.ParseUint: parsing "${text}": invalid syntax`,
    )
  }
  return Number(text)
}

/** The body as JSON without `null`s. @throws INVALID_ARGUMENT */
export async function jsonBody(request: ApiRequest): Promise<unknown> {
  const text = await bodyText(request)
  if (text === '') return {}
  try {
    return withoutNulls(JSON.parse(text) as unknown)
  } catch (cause) {
    throw new SwarmError('INVALID_ARGUMENT', 'request body: invalid JSON', { cause })
  }
}

async function bodyText(request: ApiRequest): Promise<string> {
  const chunks: Uint8Array[] = []
  let sizeBytes = 0
  for await (const chunk of request.body as AsyncIterable<Uint8Array>) {
    sizeBytes += chunk.byteLength
    if (sizeBytes > JSON_BODY_BYTES_MAX) {
      throw new SwarmError(
        'INVALID_ARGUMENT',
        `request body: larger than ${JSON_BODY_BYTES_MAX} bytes`,
      )
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.filter((item) => item !== null).map(withoutNulls)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== null)
      .map(([key, member]) => [key, withoutNulls(member)]),
  )
}
