/**
 * One file of the file log, and the next one in waiting. A segment is zeros to its full size before
 * it is used: then a durable write changes no size and no block list, and costs one flush (raft.md
 * §5.1, §5.4). It is opened `O_DSYNC`, so write and flush are one hop through the thread pool.
 *
 * A segment gets its name only when its header and first record are durable; so a named segment
 * without them is damaged, and a file of zeros with the spare's name is nothing.
 */
import { constants, write as writeFile } from 'node:fs'
import { open, readdir, rename, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../../base/assert.ts'

/** Bytes of zeros in one write of a new segment: short enough not to delay the log's own writes. */
const ZEROS_BYTES = 512 * 1024
const NAME_DIGITS = 16
const SUFFIX = '.segment'
const SPARE_NAME = 'spare'

/** A segment that is written to. */
export class Segment {
  readonly number: number
  readonly salt: number
  readonly #file: FileHandle
  /** Where the next record goes. */
  end: number

  constructor(file: FileHandle, place: { number: number; salt: number; end: number }) {
    this.#file = file
    this.number = place.number
    this.salt = place.salt
    this.end = place.end
  }

  /** Appends `bytes`; resolves when they are durable. */
  async write(bytes: Buffer): Promise<void> {
    await writeFully(this.#file, bytes, this.end)
    this.end += bytes.length
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}

/** The files of one log. */
export class SegmentDirectory {
  readonly #location: string
  readonly #segmentBytes: number
  #spare: Promise<void> | undefined

  constructor(location: string, segmentBytes: number) {
    this.#location = location
    this.#segmentBytes = segmentBytes
  }

  /** Numbers of the segments there are, ascending. */
  async numbers(): Promise<readonly number[]> {
    const names = (await readdir(this.#location)).filter((name) => name.endsWith(SUFFIX))
    return names.map((name) => Number.parseInt(name, 16)).toSorted((a, b) => a - b)
  }

  /** All bytes of a segment. */
  async contents(number: number): Promise<Buffer> {
    await using file = await open(this.#path(number), 'r')
    return await file.readFile()
  }

  /** Some bytes of a segment. */
  async read(number: number, offset: number, length: number): Promise<Buffer> {
    await using file = await open(this.#path(number), 'r')
    const buffer = Buffer.alloc(length)
    const { bytesRead } = await file.read(buffer, 0, length, offset)
    return buffer.subarray(0, bytesRead)
  }

  /**
   * Opens a segment for writing at `end`. What was found in it may be in the kernel's memory only:
   * it is made durable before anybody relies on it. `cut` removes what lies behind the end.
   */
  async resume(
    number: number,
    place: { readonly salt: number; readonly end: number; readonly cut: boolean },
  ): Promise<Segment> {
    const file = await open(this.#path(number), constants.O_RDWR | constants.O_DSYNC)
    try {
      if (place.cut) await file.truncate(place.end)
      await file.sync()
    } catch (error) {
      await file.close()
      throw error
    }
    return new Segment(file, { ...place, number })
  }

  /** A new segment that begins with `head`: durable, with its name, when this resolves. */
  async create(number: number, salt: number, head: Buffer): Promise<Segment> {
    await this.#takeSpare()
    const spare = join(this.#location, SPARE_NAME)
    const file = await open(spare, constants.O_RDWR | constants.O_DSYNC)
    try {
      await writeFully(file, head, 0)
      await rename(spare, this.#path(number))
      await this.#syncDirectory()
    } catch (error) {
      await file.close()
      throw error
    }
    return new Segment(file, { number, salt, end: head.length })
  }

  /** Begins to prepare the next segment, if there is none. A failure shows when it is needed. */
  prepare(): void {
    if (this.#spare !== undefined) return
    this.#spare = this.#makeSpare()
    this.#spare.catch(() => {}) // Made again by `create`, which reports what fails then.
  }

  /** Deletes segments, oldest first, so that what stays is always the newest. */
  async remove(numbers: readonly number[]): Promise<void> {
    for (const number of numbers) await rm(this.#path(number))
  }

  /** Waits for the spare that is being made. */
  async close(): Promise<void> {
    await Promise.allSettled([this.#spare])
    this.#spare = undefined
  }

  async #takeSpare(): Promise<void> {
    const [prepared] = await Promise.allSettled([this.#spare])
    const isMade = this.#spare !== undefined && prepared.status === 'fulfilled'
    this.#spare = undefined
    if (!isMade) await this.#makeSpare()
  }

  async #makeSpare(): Promise<void> {
    const { O_RDWR, O_CREAT, O_TRUNC } = constants
    await using file = await open(join(this.#location, SPARE_NAME), O_RDWR | O_CREAT | O_TRUNC)
    const zeros = Buffer.alloc(Math.min(ZEROS_BYTES, this.#segmentBytes))
    for (let offset = 0; offset < this.#segmentBytes; offset += zeros.length) {
      const length = Math.min(zeros.length, this.#segmentBytes - offset)
      await writeFully(file, zeros.subarray(0, length), offset)
      await file.datasync()
    }
    await file.sync()
  }

  async #syncDirectory(): Promise<void> {
    await using directory = await open(this.#location, 'r')
    await directory.sync()
  }

  #path(number: number): string {
    return join(this.#location, number.toString(16).padStart(NAME_DIGITS, '0') + SUFFIX)
  }
}

/** `pwrite` until all is written. The callback form: half the cost of the promise of a handle. */
function writeFully(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const writeFrom = (done: number): void => {
      writeFile(file.fd, bytes, done, bytes.length - done, position + done, (error, written) => {
        if (error !== null) reject(error)
        else if (done + written >= bytes.length) resolve()
        else {
          assert(written > 0, 'a write makes progress or fails')
          writeFrom(done + written)
        }
      })
    }
    writeFrom(0)
  })
}
