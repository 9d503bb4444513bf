/**
 * Docker's `filters` query parameter in both encodings: `{"role":{"manager":true}}` and the older
 * `{"role":["manager"]}`. Values of one key are alternatives; keys are conditions that all must
 * hold. Source: Docker Engine API, `filters`; recorded requests 230, 257, 613, 614.
 */
import { SwarmError } from '../base/errors.ts'

/** Most characters of the parameter; more is INVALID_ARGUMENT. */
const FILTERS_CHARACTERS_MAX = 64 * 1024

/** The parsed parameter: values by key. */
export class Filters {
  readonly #values: ReadonlyMap<string, readonly string[]>

  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.#values = values
  }

  /**
   * @throws INVALID_ARGUMENT for malformed JSON and for a key outside `accepted`, in Docker's words
   */
  static parse(query: URLSearchParams, accepted: readonly string[]): Filters {
    const text = query.get('filters') ?? ''
    const values = text === '' ? new Map<string, string[]>() : parseText(text)
    for (const key of values.keys()) {
      if (!accepted.includes(key)) {
        throw new SwarmError('INVALID_ARGUMENT', `Invalid filter '${key}'`)
      }
    }
    return new Filters(values)
  }

  has(key: string): boolean {
    return this.values(key).length > 0
  }

  values(key: string): readonly string[] {
    return this.#values.get(key) ?? []
  }

  /** True without such a filter, else whether any value satisfies `test`. */
  some(key: string, test: (value: string) => boolean): boolean {
    const values = this.values(key)
    return values.length === 0 || values.some(test)
  }

  /** Whether any of `actual` begins with one of the values (Docker's id and name filters). */
  prefix(key: string, ...actual: readonly string[]): boolean {
    return this.some(key, (value) => actual.some((text) => text.startsWith(value)))
  }

  /** Whether `labels` has all of the wanted `key` or `key=value`. */
  labels(key: string, labels: Readonly<Record<string, string>> | undefined): boolean {
    return this.values(key).every((wanted) => {
      const separator = wanted.indexOf('=')
      if (separator < 0) return labels?.[wanted] !== undefined
      return labels?.[wanted.slice(0, separator)] === wanted.slice(separator + 1)
    })
  }

  /** @throws INVALID_ARGUMENT when a value of `key` is none of `accepted` */
  requireOneOf(key: string, accepted: readonly string[]): void {
    for (const value of this.values(key)) {
      if (accepted.includes(value)) continue
      throw new SwarmError('INVALID_ARGUMENT', `Invalid filter '${key}=${value}'`)
    }
  }
}

function parseText(text: string): Map<string, string[]> {
  if (text.length > FILTERS_CHARACTERS_MAX) {
    throw new SwarmError('INVALID_ARGUMENT', 'filters: too long')
  }
  const parsed = parseJson(text)
  if (!isRecord(parsed)) throw invalidFilters()
  return new Map(Object.entries(parsed).map(([key, value]) => [key, filterValues(value)]))
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    throw invalidFilters(cause)
  }
}

function filterValues(value: unknown): string[] {
  if (Array.isArray(value)) return value.map(String)
  if (isRecord(value)) return Object.keys(value)
  throw invalidFilters()
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function invalidFilters(cause?: unknown): SwarmError {
  return new SwarmError(
    'INVALID_ARGUMENT',
    'filters: not a JSON object of values by key',
    cause === undefined ? {} : { cause },
  )
}
