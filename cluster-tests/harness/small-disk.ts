/** A file system of a few MiB in memory that a test can fill to the last byte. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, rmdirSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const BALLAST_CHUNK_BYTES = 64 * 1024
const SMALLEST_CHUNK_BYTES = 256

/** Mounted from construction to disposal. */
export class SmallDisk implements Disposable {
  /** The mount point. */
  readonly path: string
  readonly #ballast: string

  constructor(sizeMib: number) {
    this.path = mkdtempSync(join(tmpdir(), 'skein-disk-'))
    this.#ballast = join(this.path, 'ballast')
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${sizeMib}m,mode=755`, 'tmpfs', this.path])
  }

  /** Leaves no byte free. */
  fill(): void {
    const file = openSync(this.#ballast, 'a')
    try {
      let size = BALLAST_CHUNK_BYTES
      while (size >= SMALLEST_CHUNK_BYTES) {
        if (!wrote(file, Buffer.alloc(size, 1))) size /= 2
      }
    } finally {
      closeSync(file)
    }
  }

  free(): void {
    rmSync(this.#ballast, { force: true })
  }

  [Symbol.dispose](): void {
    execFileSync('umount', [this.path])
    rmdirSync(this.path)
  }
}

function wrote(file: number, bytes: Buffer): boolean {
  try {
    return writeSync(file, bytes) === bytes.length
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return false
    throw error
  }
}
