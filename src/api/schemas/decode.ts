/**
 * Decoding of request bodies: zod checks types at the border, unknown members pass through.
 */
import type { ZodType, output } from 'zod'
import { SwarmError } from '../../base/errors.ts'

/** The value, checked. @throws INVALID_ARGUMENT naming the member and what is wrong with it */
export function decode<S extends ZodType>(schema: S, value: unknown): output<S> {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const [issue] = result.error.issues
  const where = issue?.path.join('.') ?? ''
  throw new SwarmError(
    'INVALID_ARGUMENT',
    `${where === '' ? 'request body' : where}: ${issue?.message ?? 'invalid'}`,
  )
}
