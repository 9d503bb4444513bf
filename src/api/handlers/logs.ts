/**
 * Logs of services and tasks in Docker's framing: an 8-byte header (stream, three zeros, length)
 * before each record; with a terminal, the bytes alone. The details stand after the timestamp.
 * Source: Docker Engine API, "Stream format"; recorded exchanges 267-269, 276.
 */
import { SwarmError, errorText, isSwarmError } from '../../base/errors.ts'
import type { TaskSpec } from '../../store/spec.ts'
import { findService, findTask } from '../lookup.ts'
import { requireManager } from '../manager.ts'
import type { ApiComponents, LogOptions, LogRecord, LogTarget } from '../ports.ts'
import type { Reply } from '../reply.ts'
import { flag, parameter } from '../request.ts'
import type { ApiRequest } from '../request.ts'
import { route } from '../router.ts'
import type { Route } from '../router.ts'

/** Routes of logs. */
export function logRoutes(components: ApiComponents): readonly Route[] {
  return [
    route('GET', '/services/{id}/logs', (request) => {
      const { store } = requireManager(components)
      const service = findService(store, parameter(request, 'id'))
      const target = { serviceId: service.id }
      return logs(components, request, { target, spec: service.spec.TaskTemplate })
    }),
    route('GET', '/tasks/{id}/logs', (request) => {
      const { store } = requireManager(components)
      const task = findTask(store, parameter(request, 'id'))
      return logs(components, request, { target: { taskId: task.id }, spec: task.spec })
    }),
  ]
}

function logs(
  components: ApiComponents,
  request: ApiRequest,
  { target, spec }: { readonly target: LogTarget; readonly spec: TaskSpec },
): Reply {
  if (components.logs === undefined) {
    throw new SwarmError('UNIMPLEMENTED', 'logs: this node has no log reader')
  }
  const terminal = spec.ContainerSpec.TTY === true
  const records = components.logs.read(target, logOptions(request))
  const kind = terminal ? 'raw-stream' : 'multiplexed-stream'
  return {
    type: 'stream',
    status: 200,
    contentType: `application/vnd.docker.${kind}`,
    chunks: encode(records, {
      terminal,
      timestamps: flag(request, 'timestamps'),
      details: flag(request, 'details'),
    }),
  }
}

/** @throws INVALID_ARGUMENT when neither stream is asked for, in Docker's words */
function logOptions(request: ApiRequest): LogOptions {
  const stdout = flag(request, 'stdout')
  const stderr = flag(request, 'stderr')
  if (!stdout && !stderr) {
    throw new SwarmError('INVALID_ARGUMENT', 'Bad parameters: you must choose at least one stream')
  }
  const tail = request.query.get('tail') ?? ''
  const since = request.query.get('since') ?? ''
  return {
    stdout,
    stderr,
    follow: flag(request, 'follow'),
    ...(/^\d+$/.test(tail) ? { tail: Number(tail) } : {}),
    ...(since === '' || since === '0' ? {} : { sinceMs: sinceMs(since) }),
    signal: request.signal,
  }
}

function sinceMs(text: string): number {
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text)
  if (Number.isNaN(ms)) throw new SwarmError('INVALID_ARGUMENT', `since: "${text}" is no time`)
  return ms
}

/** First byte of a frame. What went wrong has its own: the status is sent already. */
const STREAM_NUMBER = { stdout: 1, stderr: 2, error: 3 } as const

interface EncodeOptions {
  readonly terminal: boolean
  readonly timestamps: boolean
  readonly details: boolean
}

async function* encode(
  records: AsyncIterable<LogRecord>,
  options: EncodeOptions,
): AsyncGenerator<Uint8Array> {
  try {
    for await (const record of records) {
      const payload = Buffer.concat([Buffer.from(prefix(record, options)), record.line])
      yield options.terminal ? payload : frame(STREAM_NUMBER[record.stream], payload)
    }
  } catch (error) {
    if (!isSwarmError(error)) throw error
    const payload = Buffer.from(`Error grabbing logs: ${errorText(error)}\n`)
    yield options.terminal ? payload : frame(STREAM_NUMBER.error, payload)
  }
}

function prefix(record: LogRecord, { timestamps, details }: EncodeOptions): string {
  const time = timestamps ? `${record.timestamp} ` : ''
  const origin = details
    ? `com.docker.swarm.node.id=${record.nodeId},com.docker.swarm.service.id=` +
      `${record.serviceId},com.docker.swarm.task.id=${record.taskId} `
    : ''
  return time + origin
}

function frame(stream: number, payload: Uint8Array): Uint8Array {
  const header = Buffer.alloc(8)
  header.writeUInt8(stream, 0)
  header.writeUInt32BE(payload.byteLength, 4)
  return Buffer.concat([header, payload])
}
