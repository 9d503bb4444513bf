/**
 * Refuses to start on a disk without room. A daemon on a full disk would find that no container
 * runtime works (nothing can be prepared) and take its running containers for something else;
 * better it says what is wrong and leaves them alone.
 */
import { statfs } from 'node:fs/promises'
import { SwarmError } from '../base/errors.ts'

/**
 * Bytes that a start needs at most: a test container, LevelDB's new files. Reason: about 100 KiB
 * measured.
 */
export const START_SPACE_BYTES = 1024 * 1024

/** @throws STORAGE_FULL */
export async function assertFreeSpace(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory)
  const freeBytes = bavail * bsize
  if (freeBytes >= START_SPACE_BYTES) return
  const what = `data directory ${directory}: the disk is full`
  const figures = `${freeBytes} bytes are free, ${START_SPACE_BYTES} are needed to start`
  throw new SwarmError('STORAGE_FULL', `${what}: ${figures}`)
}
