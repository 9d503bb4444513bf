/**
 * Decoding of request bodies: zod checks types at the border, unknown members pass through. This is the
 * one place where a checked value gets its type.
 */
import type { ZodType } from 'zod'
import { SwarmError } from '../../base/errors.ts'

/** The value, checked. @throws INVALID_ARGUMENT naming the member and what is wrong with it */
export function decode<T>(schema: ZodType, value: unknown): T {
  const result = schema.safeParse(value)
  if (result.success) return result.data as T
  const [issue] = result.error.issues
  const where = issue?.path.join('.') ?? ''
  throw new SwarmError(
    'INVALID_ARGUMENT',
    `${where === '' ? 'request body' : where}: ${issue?.message ?? 'invalid'}`,
  )
}
