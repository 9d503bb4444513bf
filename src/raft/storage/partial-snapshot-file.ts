/**
 * A snapshot that is being received, as two files:
 *
 *   <term>-<index>-<digest>.part    what the snapshot's file will be, as far as it came
 *   <term>-<index>-<digest>.marks   for each chunk written: length (4) · CRC-32 (4)
 *
 * Nothing is synced before the end, and no order of writes is assumed. What counts is proven when
 * the files are opened: the header must be that of the wanted snapshot, and each mark must fit the
 * bytes that it stands for; from the first that does not, both files are cut. At the end size and
 * SHA-256 must be what the sender announced, else both files go. A footer that a crash left behind
 * lies beyond the last mark and is cut too.
 */
import { createHash } from 'node:crypto'
import { constants, open, rm, type FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import type { SnapshotIdentity } from './ports.ts'
import { encodeFooter, encodeHeader, readExactly } from './snapshot-file.ts'
import { notAsAnnounced } from './snapshot-generations.ts'

/** Endings of the two files. */
export const PARTIAL_SUFFIX = '.part'
export const MARKS_SUFFIX = '.marks'

const CRC_OFFSET = 4
const MARK_BYTES = 8
/** Marks that are read at once. */
const MARKS_AT_ONCE = 4096
/** Largest chunk that is believed of a mark; those of transfers are far smaller. */
const CHUNK_BYTES_MAX = 64 * 1024 * 1024

/** The two files of one partial snapshot, open. */
export class PartialSnapshotFile {
  readonly #path: string
  readonly #identity: SnapshotIdentity
  readonly #content: FileHandle
  readonly #marks: FileHandle
  readonly #header: Uint8Array
  readonly #hash = createHash('sha256')
  #checksum = 0
  #markCount = 0
  /** Bytes of content that are there. */
  sizeBytes = 0

  private constructor(
    path: string,
    identity: SnapshotIdentity,
    files: { readonly content: FileHandle; readonly marks: FileHandle },
  ) {
    this.#path = path
    this.#identity = identity
    this.#content = files.content
    this.#marks = files.marks
    this.#header = encodeHeader(identity.metadata, identity.membership)
  }

  /** Opens or begins the files at `path` (without an ending), cut to what is proven. */
  static async open(path: string, identity: SnapshotIdentity): Promise<PartialSnapshotFile> {
    const flags = constants.O_RDWR | constants.O_CREAT
    const content = await open(path + PARTIAL_SUFFIX, flags, 0o644)
    const marks = await open(path + MARKS_SUFFIX, flags, 0o644)
    const partial = new PartialSnapshotFile(path, identity, { content, marks })
    try {
      await partial.#verify()
      return partial
    } catch (error) {
      await partial.close()
      throw error
    }
  }

  /** Appends to the content. */
  async write(chunk: Uint8Array): Promise<void> {
    if (chunk.length === 0) return
    const mark = new Uint8Array(MARK_BYTES)
    const view = new DataView(mark.buffer)
    view.setUint32(0, chunk.length)
    view.setUint32(CRC_OFFSET, crc32(chunk))
    await writeAt(this.#content, chunk, this.#header.length + this.sizeBytes)
    await writeAt(this.#marks, mark, this.#markCount * MARK_BYTES)
    this.#count(chunk)
  }

  /** Makes the content whole and durable, and closes it. @throws UNAVAILABLE when it is another */
  async finish(): Promise<void> {
    const { sizeBytes, digest } = this.#identity
    const found = this.#hash.digest('hex')
    if (this.sizeBytes !== sizeBytes || found !== digest) {
      await this.close()
      await this.remove()
      throw notAsAnnounced(this.#identity)
    }
    const footer = encodeFooter(sizeBytes, this.#checksum, digest)
    await writeAt(this.#content, footer, this.#header.length + sizeBytes)
    await this.#content.sync()
    await this.close()
  }

  async close(): Promise<void> {
    await this.#content.close()
    await this.#marks.close()
  }

  /** Deletes both files. */
  async remove(): Promise<void> {
    await rm(this.#path + PARTIAL_SUFFIX, { force: true })
    await rm(this.#path + MARKS_SUFFIX, { force: true })
  }

  async #verify(): Promise<void> {
    const header = await readExactly(this.#content, 0, this.#header.length)
    if (header !== undefined && Buffer.compare(header, this.#header) === 0) await this.#prove()
    else await writeAt(this.#content, this.#header, 0)
    await this.#content.truncate(this.#header.length + this.sizeBytes)
    await this.#marks.truncate(this.#markCount * MARK_BYTES)
  }

  /** Takes over chunk after chunk, as long as each fits its mark. */
  async #prove(): Promise<void> {
    const count = Math.floor((await this.#marks.stat()).size / MARK_BYTES)
    while (this.#markCount < count) {
      const from = this.#markCount
      const batch = Math.min(MARKS_AT_ONCE, count - from)
      const marks = await readExactly(this.#marks, from * MARK_BYTES, batch * MARK_BYTES)
      if (marks === undefined) return
      const view = new DataView(marks.buffer, marks.byteOffset)
      for (let at = 0; at < marks.length; at += MARK_BYTES) {
        const chunk = await this.#chunkOf(view.getUint32(at), view.getUint32(at + CRC_OFFSET))
        if (chunk === undefined) return
        this.#count(chunk)
      }
    }
  }

  async #chunkOf(length: number, checksum: number): Promise<Uint8Array | undefined> {
    const isPossible = length > 0 && length <= CHUNK_BYTES_MAX
    if (!isPossible || this.sizeBytes + length > this.#identity.sizeBytes) return undefined
    const chunk = await readExactly(this.#content, this.#header.length + this.sizeBytes, length)
    return chunk !== undefined && crc32(chunk) === checksum ? chunk : undefined
  }

  #count(chunk: Uint8Array): void {
    this.#hash.update(chunk)
    this.#checksum = crc32(chunk, this.#checksum)
    this.sizeBytes += chunk.length
    this.#markCount += 1
  }
}

async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    const rest = bytes.length - written
    written += (await file.write(bytes, written, rest, position + written)).bytesWritten
  }
}
