/**
 * A small router: literal segments, `{name}` for one segment, `{name*}` for the rest up to the next
 * literal (image names contain slashes). The first route that matches wins, so a table reads from
 * special to general.
 */
import type { Reply } from './reply.ts'
import type { ApiRequest } from './request.ts'

/** Answers one request. @throws SwarmError, which becomes Docker's error body */
export type Handler = (request: ApiRequest) => Reply | Promise<Reply>

/** One line of the endpoint table. */
export interface Route {
  readonly method: string
  /** `/services/{id}/update` */
  readonly pattern: string
  readonly handler: Handler
}

/** A route that matched, and what its parameters stand for. */
export interface Match {
  readonly handler: Handler
  readonly parameters: Readonly<Record<string, string>>
}

/** Builds a line of the table. */
export function route(method: string, pattern: string, handler: Handler): Route {
  return { method, pattern, handler }
}

/** Finds handlers; built once from the whole table. */
export class Router {
  readonly #routes: readonly {
    readonly method: string
    readonly expression: RegExp
    readonly handler: Handler
  }[]

  constructor(routes: readonly Route[]) {
    this.#routes = routes.map(({ method, pattern, handler }) => ({
      method,
      expression: compile(pattern),
      handler,
    }))
  }

  /** The handler for this request. HEAD is answered by GET's. */
  match(method: string, path: string): Match | undefined {
    const wanted = method === 'HEAD' ? 'GET' : method
    for (const candidate of this.#routes) {
      if (candidate.method !== wanted) continue
      const found = candidate.expression.exec(path)
      if (found === null) continue
      return { handler: candidate.handler, parameters: decodeAll(found.groups ?? {}) }
    }
    return undefined
  }
}

function compile(pattern: string): RegExp {
  const source = pattern
    .replaceAll(/[.+?^$()|[\]\\]/g, String.raw`\$&`)
    .replaceAll(/\{(\w+)\*\}/g, '(?<$1>.+)')
    .replaceAll(/\{(\w+)\}/g, '(?<$1>[^/]+)')
  return new RegExp(`^${source}/?$`)
}

function decodeAll(groups: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(groups).map(([name, text]) => [name, decode(text)]))
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    // Not a valid escape: the client meant the characters themselves, as Go's router takes it.
    return text
  }
}
