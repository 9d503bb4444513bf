/**
 * Files that survive a power cut: written to a temporary name, synced, renamed, directory synced.
 * And the one mapping from the operating system's errors about storage to ours.
 */
import { open, rename, rm } from 'node:fs/promises'
import { SwarmError, isSwarmError } from '../base/errors.ts'

const FULL_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT'])

/** `error` as an operating error: a full disk is STORAGE_FULL, one of ours stays what it is. */
export function storageError(error: unknown, subject: string): SwarmError {
  if (isSwarmError(error)) return error
  const code = systemCode(error)
  if (code !== undefined && FULL_CODES.has(code)) {
    return new SwarmError('STORAGE_FULL', `${subject}: no space left on device`, { cause: error })
  }
  return new SwarmError('INTERNAL', subject, { cause: error })
}

/** The `code` of an error of the operating system (`ENOENT`). */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/** Makes a file's content, or the renames inside a directory, durable. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Replaces `directory/name` by `bytes`, all or nothing. @throws STORAGE_FULL, INTERNAL */
export async function writeFileDurably(
  directory: string,
  name: string,
  bytes: Uint8Array,
): Promise<void> {
  const temporary = `${directory}/${name}.new`
  try {
    const handle = await open(temporary, 'w', 0o600)
    try {
      await handle.writeFile(bytes)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, `${directory}/${name}`)
    await syncPath(directory)
  } catch (error) {
    await rm(temporary, { force: true })
    throw storageError(error, `file ${JSON.stringify(name)}`)
  }
}
