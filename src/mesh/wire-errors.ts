/**
 * Errors across the wire: a code that both sides know and a text. What is no operating error here
 * is INTERNAL there; a failed assertion is never answered, it stops this process.
 */
import { AssertionError } from '../base/assert.ts'
import { ERROR_CODES, errorText, isSwarmError, SwarmError, type ErrorCode } from '../base/errors.ts'

/** An error as it travels. */
export interface WireError {
  readonly code: ErrorCode
  readonly message: string
}

/** Longest text that travels, in characters. */
const MESSAGE_LENGTH_MAX = 4096

/** `error` for the other side. Throws a failed assertion on. */
export function toWireError(error: unknown): WireError {
  if (error instanceof AssertionError) throw error
  const code = isSwarmError(error) ? error.code : 'INTERNAL'
  return { code, message: errorText(error).slice(0, MESSAGE_LENGTH_MAX) }
}

/** The error that the other side described; an unknown code becomes INTERNAL. */
export function fromWireError(code: string, message: string): SwarmError {
  return new SwarmError(isErrorCode(code) ? code : 'INTERNAL', message)
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERROR_CODES, code)
}
