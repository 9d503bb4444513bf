/**
 * `GET /events`: an open stream of what changes in the swarm, from now on (there is no history:
 * `since` gives nothing older). A reader that is too slow is cut off rather than kept in memory.
 */
import { SwarmError } from '../../base/errors.ts'
import { changeEvent } from '../docker/event.ts'
import type { DockerEvent } from '../docker/event.ts'
import { Filters } from '../filters.ts'
import type { ApiComponents } from '../ports.ts'
import type { Reply } from '../reply.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'

/** Events that wait for one slow reader; one more ends its stream with an error. */
const EVENTS_WAITING_MAX = 10_000

/** Filters on kinds of objects that have no events here: nothing matches them. */
const SILENT_KINDS = 'container image network volume plugin secret config'.split(' ')

const EVENT_FILTERS = ['type', 'event', 'scope', 'service', 'node', 'label', 'daemon']

/** The route of events. */
export function eventRoutes(components: ApiComponents): readonly Route[] {
  return [route('GET', '/events', (request) => stream(components, request))]
}

function stream(components: ApiComponents, request: ApiRequest): Reply {
  const filters = Filters.parse(request.query, [...EVENT_FILTERS, ...SILENT_KINDS])
  return {
    type: 'stream',
    status: 200,
    contentType: 'application/json',
    chunks: events(components, { filters, until: untilMs(request), signal: request.signal }),
  }
}

/** Docker takes seconds since 1970, with a fraction, or RFC 3339. */
function untilMs(request: ApiRequest): number | undefined {
  const text = request.query.get('until') ?? ''
  if (text === '') return undefined
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text)
  if (Number.isNaN(ms)) throw new SwarmError('INVALID_ARGUMENT', `until: "${text}" is no time`)
  return ms
}

interface EventOptions {
  readonly filters: Filters
  readonly until: number | undefined
  readonly signal: AbortSignal
}

async function* events(
  components: ApiComponents,
  { filters, until, signal }: EventOptions,
): AsyncGenerator<string> {
  const waiting: DockerEvent[] = []
  let wake = Promise.withResolvers<void>()
  const ended = new AbortController()
  const end = (): void => {
    ended.abort()
    wake.resolve()
  }
  const unwatch = components.context()?.store.onCommit((commit) => {
    if (commit.type === 'restored') return
    for (const change of commit.changes) {
      const event = changeEvent(change, components.clock.wallMs())
      if (event !== undefined && matches(event, filters)) waiting.push(event)
    }
    wake.resolve()
  })
  const timer =
    until === undefined
      ? undefined
      : components.clock.after(Math.max(0, until - components.clock.wallMs()), end)
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  try {
    while (!ended.signal.aborted) {
      await wake.promise
      wake = Promise.withResolvers<void>()
      if (waiting.length > EVENTS_WAITING_MAX) {
        throw new SwarmError('RESOURCE_EXHAUSTED', 'events: the reader is too slow')
      }
      for (const event of waiting.splice(0)) yield `${JSON.stringify(event)}\n`
    }
  } finally {
    timer?.cancel()
    unwatch?.()
    signal.removeEventListener('abort', end)
  }
}

function matches(event: DockerEvent, filters: Filters): boolean {
  const { ID, Attributes } = event.Actor
  const named = (key: string): boolean =>
    filters.some(
      key,
      (value) => event.Type === key && (ID === value || Attributes['name'] === value),
    )
  return (
    filters.some('type', (type) => event.Type === type) &&
    filters.some('event', (action) => event.Action === action) &&
    filters.some('scope', (scope) => scope === event.scope) &&
    named('service') &&
    named('node') &&
    SILENT_KINDS.every((key) => !filters.has(key))
  )
}
