/**
 * The right of one process, and one store in it, to use a directory. It must end with the process,
 * however that ends, and must have no moment in which two believe that they hold it. Node offers no
 * file lock; an abstract socket ends at the network namespace and is Linux's alone; a file with
 * a process id is a race and outlives a crash. So it is LevelDB's: an empty database, whose `LOCK`
 * file is held by fcntl(2) (LockFileEx on Windows). It works wherever `LevelLogStore` does, and
 * writes nothing after it was taken.
 *
 * Within the process `claimDirectory` refuses first. LevelDB would refuse too, but by closing the
 * file that it has just opened, and with the first close of a file fcntl(2) takes away every lock
 * that the process has on it: the next process would get in.
 *
 * Limits: taking it writes a few hundred bytes, so a disk that is quite full refuses with
 * STORAGE_FULL; over network file systems it is as good as their locks.
 * Source: LevelDB `util/env_posix.cc`, `PosixLockTable` and `LockOrUnlock`.
 */
import { realpathSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { Level } from 'level'
import { SwarmError } from '../../base/errors.ts'
import { asStorageError } from './storage-error.ts'

/** The least that LevelDB takes: nothing is ever put. */
const WRITE_BUFFER_BYTES = 64 * 1024

/** Directories that stores of this process use: it is the process that must know, so a module's. */
const claimed = new Set<string>()

/**
 * Takes `location`, which exists, for one store of this process; gives it back when called.
 * @throws FAILED_PRECONDITION when another store has it
 */
export function claimDirectory(location: string, subject: string): () => void {
  const path = realpathSync(location)
  if (claimed.has(path)) {
    throw new SwarmError('FAILED_PRECONDITION', `${subject}: is in use by another store`)
  }
  claimed.add(path)
  return () => claimed.delete(path)
}

/** A directory that is held. */
export class DirectoryLock {
  readonly #database: Level
  readonly #unclaim: () => void

  /**
   * Takes `location`, a directory that is the lock's own; made when missing.
   * @throws FAILED_PRECONDITION when another process or store holds it
   */
  static async take(location: string, subject: string): Promise<DirectoryLock> {
    await mkdir(location, { recursive: true })
    const unclaim = claimDirectory(location, subject)
    const options = { writeBufferSize: WRITE_BUFFER_BYTES, cacheSize: 0 }
    const database = new Level(location, options)
    try {
      await database.open()
    } catch (error) {
      unclaim()
      throw asStorageError(subject, error)
    }
    return new DirectoryLock(database, unclaim)
  }

  private constructor(database: Level, unclaim: () => void) {
    this.#database = database
    this.#unclaim = unclaim
  }

  async release(): Promise<void> {
    try {
      await this.#database.close()
    } finally {
      this.#unclaim()
    }
  }
}
