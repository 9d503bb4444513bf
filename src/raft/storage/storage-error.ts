/**
 * Errors of the file system and of LevelDB as Skein's codes. LevelDB passes a full disk as a text
 * only (`IO error: …: No space left on device`), so that one text is recognised here, at the
 * border.
 */
import { SwarmError, errorText } from '../../base/errors.ts'

const CODES_OF_CORRUPTION: ReadonlySet<unknown> = new Set(['LEVEL_CORRUPTION'])
const FULL_DISK = /No space left on device|ENOSPC|Disk quota exceeded|EDQUOT/

/** `error` as a `SwarmError` about `subject`. */
export function asStorageError(subject: string, error: unknown): SwarmError {
  if (error instanceof SwarmError) return error
  const codes = errorCodes(error)
  const text = errorText(error)
  if (codes.some((code) => CODES_OF_CORRUPTION.has(code))) {
    return new SwarmError('STORAGE_CORRUPT', `${subject}: is damaged`, { cause: error })
  }
  if (FULL_DISK.test(text)) {
    return new SwarmError('STORAGE_FULL', `${subject}: the disk is full`, { cause: error })
  }
  if (codes.includes('LEVEL_LOCKED')) {
    const message = `${subject}: is in use by another process`
    return new SwarmError('FAILED_PRECONDITION', message, { cause: error })
  }
  return new SwarmError('INTERNAL', `${subject}: storage failed`, { cause: error })
}

function errorCodes(error: unknown): readonly unknown[] {
  if (!(error instanceof Error)) return []
  const code = 'code' in error ? error.code : undefined
  return [code, ...errorCodes(error.cause)]
}
