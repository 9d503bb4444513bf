/**
 * Small files that must never be half written nor readable by others: keys and identity. A write
 * goes to a temporary file (mode 0600), is synced, renamed over the old one, and the directory is
 * synced: after a power cut there is the old content or the new, nothing between.
 */
import { open, readFile, rename } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { SwarmError } from '../base/errors.ts'

const PRIVATE_MODE = 0o600

/** Writes `content` to `path` durably and atomically. @throws STORAGE_FULL, INTERNAL */
export async function writePrivateFile(path: string, content: Uint8Array): Promise<void> {
  const directory = dirname(path)
  const temporary = join(directory, `.${basename(path)}.new`)
  try {
    await using file = await open(temporary, 'w', PRIVATE_MODE)
    await file.chmod(PRIVATE_MODE)
    await file.writeFile(content)
    await file.sync()
    await rename(temporary, path)
    await using parent = await open(directory, 'r')
    await parent.sync()
  } catch (error) {
    const full = errorCode(error) === 'ENOSPC' || errorCode(error) === 'EDQUOT'
    throw new SwarmError(full ? 'STORAGE_FULL' : 'INTERNAL', `file ${path}: not written`, {
      cause: error,
    })
  }
}

/** The content of `path`; undefined when there is no such file. @throws INTERNAL */
export async function readPrivateFile(path: string): Promise<Uint8Array | undefined> {
  try {
    return new Uint8Array(await readFile(path))
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw new SwarmError('INTERNAL', `file ${path}: not readable`, { cause: error })
  }
}

/**
 * A key of exactly `sizeBytes`; undefined when there is no such file.
 * @throws STORAGE_CORRUPT when the file has another length
 */
export async function readKeyFile(
  path: string,
  sizeBytes: number,
): Promise<Uint8Array | undefined> {
  const content = await readPrivateFile(path)
  if (content !== undefined && content.length !== sizeBytes) {
    throw new SwarmError(
      'STORAGE_CORRUPT',
      `key file ${path}: has ${content.length} bytes instead of ${sizeBytes}`,
    )
  }
  return content
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}
