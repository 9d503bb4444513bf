/**
 * What Docker's API has and Skein has not: answered with 501 and a text that says so, so that
 * nobody takes it for a mistyped path (404 `page not found`).
 */
import { SwarmError } from '../../base/errors.ts'
import { json } from '../reply.ts'
import { parameter } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'

const METHODS = ['GET', 'POST', 'PUT', 'DELETE'] as const

/** First segments of Docker's API. */
const AREAS =
  'auth build commit configs containers distribution exec grpc images networks plugins secrets ' +
  'services session system volumes'

/**
 * Kinds of objects of which Skein has none. `docker inspect` without a type tries one kind after
 * the other for as long as the answer is "not found".
 */
const ABSENT_KINDS: readonly (readonly [pattern: string, text: (name: string) => string])[] = [
  ['/containers/{name}/json', (name) => `No such container: ${name}`],
  ['/volumes/{name}', (name) => `get ${name}: no such volume`],
  ['/plugins/{name*}/json', (name) => `plugin ${JSON.stringify(name)} not found`],
  ['/secrets/{name}', (name) => `secret ${name} not found`],
  ['/configs/{name}', (name) => `config ${name} not found`],
]

/** Routes that match after all others. */
export function unsupportedRoutes(): readonly Route[] {
  return [
    route('GET', '/volumes', () => json({ Volumes: [], Warnings: null })),
    ...ABSENT_KINDS.map(([pattern, text]) =>
      route('GET', pattern, (request) => {
        throw new SwarmError('NOT_FOUND', text(parameter(request, 'name')))
      }),
    ),
    ...unsupportedAreas(),
  ]
}

function unsupportedAreas(): readonly Route[] {
  return AREAS.split(' ').flatMap((area) =>
    METHODS.flatMap((method) =>
      [`/${area}`, `/${area}/{rest*}`].map((pattern) =>
        route(method, pattern, (request) => {
          throw new SwarmError(
            'UNIMPLEMENTED',
            `Skein does not have this part of Docker's API: ${request.method} ${request.path}`,
          )
        }),
      ),
    ),
  )
}
