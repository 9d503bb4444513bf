/**
 * What travels on the control stream, and its decoding. Anything unknown or malformed ends the
 * session: a member that speaks differently is a member of another version.
 */
import { decode, encode } from 'msgpackr'
import { errorText, SwarmError } from '../base/errors.ts'

/** Version of everything that the mesh speaks; peers of another version get no link. */
export const MESH_PROTOCOL_VERSION = 1

/** First message in each direction; the link counts as up when both have come. */
export interface Hello {
  readonly type: 'hello'
  readonly version: number
  readonly nodeId: string
  /**
   * Differs from start to start of the same node, so that sessions of a dead process are dropped.
   */
  readonly incarnation: string
}

/** Liveness probe and its echo. */
export interface Ping {
  readonly type: 'ping' | 'pong'
  readonly id: number
}

/** A question to a handler. */
export interface Request {
  readonly type: 'request'
  readonly id: number
  readonly method: string
  readonly body: unknown
}

/** What the handler returned. */
export interface Answer {
  readonly type: 'answer'
  readonly id: number
  readonly body: unknown
}

/** What the handler threw. */
export interface Failure {
  readonly type: 'failure'
  readonly id: number
  readonly code: string
  readonly message: string
}

/** Any message of the control stream. */
export type ControlMessage = Hello | Ping | Request | Answer | Failure

/** The bytes of `message`. */
export function encodeControl(message: ControlMessage): Uint8Array {
  return encode(message)
}

/** Reads a message. Its byte fields do not share memory with `bytes`. @throws INVALID_ARGUMENT */
export function decodeControl(bytes: Uint8Array): ControlMessage {
  const value = decodeMessagePack(Uint8Array.from(bytes), 'control message')
  const message = asFields(value)
  switch (message['type']) {
    case 'hello':
      return {
        type: 'hello',
        version: integer(message, 'version'),
        nodeId: text(message, 'nodeId'),
        incarnation: text(message, 'incarnation'),
      }
    case 'ping':
    case 'pong':
      return { type: message['type'], id: integer(message, 'id') }
    case 'request': {
      const id = integer(message, 'id')
      return { type: 'request', id, method: text(message, 'method'), body: message['body'] }
    }
    case 'answer':
      return { type: 'answer', id: integer(message, 'id'), body: message['body'] }
    case 'failure': {
      const id = integer(message, 'id')
      return { type: 'failure', id, code: text(message, 'code'), message: text(message, 'message') }
    }
    default:
      throw malformed('unknown type')
  }
}

/** Decodes msgpack from a peer. @throws INVALID_ARGUMENT */
export function decodeMessagePack(bytes: Uint8Array, subject: string): unknown {
  try {
    return decode(bytes)
  } catch (error) {
    throw new SwarmError('INVALID_ARGUMENT', `${subject}: not msgpack (${errorText(error)})`)
  }
}

/** The fields of a decoded object. @throws INVALID_ARGUMENT when it is none */
export function asFields(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null) throw malformed('not an object')
  return value as Readonly<Record<string, unknown>>
}

/** A text field. @throws INVALID_ARGUMENT */
export function text(fields: Readonly<Record<string, unknown>>, name: string): string {
  const value = fields[name]
  if (typeof value !== 'string') throw malformed(`field ${name} is no text`)
  return value
}

/** A non-negative integer field. @throws INVALID_ARGUMENT */
export function integer(fields: Readonly<Record<string, unknown>>, name: string): number {
  const value = fields[name]
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw malformed(`field ${name} is no count`)
  }
  return value
}

/** A field of bytes. @throws INVALID_ARGUMENT */
export function binary(fields: Readonly<Record<string, unknown>>, name: string): Uint8Array {
  const value = fields[name]
  if (!(value instanceof Uint8Array)) throw malformed(`field ${name} is not bytes`)
  return value
}

function malformed(reason: string): SwarmError {
  return new SwarmError('INVALID_ARGUMENT', `message: ${reason}`)
}
