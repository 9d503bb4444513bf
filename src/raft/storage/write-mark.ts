/**
 * A small file beside the log that remembers the number of the newest acknowledged write, so that a
 * log whose acknowledged tail vanished is noticed. LevelDB cuts a damaged tail of its own log
 * without a word, whether the tail was torn in flight (harmless) or acknowledged and then lost (a
 * vote or a committed entry is forgotten: the node must not take part any more).
 *
 * The mark is written after the log's write is durable and is not synced: it may lag behind the log
 * (then less is noticed), never run ahead of it (so it raises no false alarm). It is written
 * `REST_MS` after the write that asks for it, so that writing it neither delays the answers that
 * wait for that write nor doubles the work of many small writes. Two slots are written in turn, so
 * a torn mark leaves the one before.
 */
import { constants, write } from 'node:fs'
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'

/** Bytes of one slot: sequence (8), CRC-32 of it (4), padding. */
const SLOT_BYTES = 16
const SLOTS = 2
const SEQUENCE_BYTES = 8
/** How long the mark may lag behind the log, milliseconds. */
const REST_MS = 10

/** The newest acknowledged write. One file write in flight, the latest value wins. */
export class WriteMark {
  readonly #path: string
  #file: FileHandle | undefined
  #slot = 0
  #writing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #wanted: number | undefined
  /** Why the mark cannot be written any more; the log must not go on without it. */
  failure: Error | undefined

  constructor(path: string) {
    this.#path = path
  }

  /** Opens the file and returns the newest number in it; 0 when there is none. */
  async open(): Promise<number> {
    const file = await open(this.#path, constants.O_RDWR | constants.O_CREAT)
    this.#file = file
    const bytes = new Uint8Array(SLOT_BYTES * SLOTS)
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
    const first = readSlot(bytes.subarray(0, bytesRead), 0)
    const second = readSlot(bytes.subarray(0, bytesRead), 1)
    this.#slot = first >= second ? 1 : 0
    return Math.max(first, second)
  }

  /** Notes that write `sequence` is durable; returns at once. */
  note(sequence: number): void {
    this.#wanted = sequence
    if (this.#timer === undefined && this.#writing === undefined) this.#arm()
  }

  /** Waits for the last mark. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#writing
    clearTimeout(this.#timer)
    this.#timer = undefined
    await this.#drain()
    await this.#file?.close()
    this.#file = undefined
  }

  #arm(): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#writing = this.#drain().finally(() => {
        this.#writing = undefined
        if (this.#wanted !== undefined && this.failure === undefined) this.#arm()
      })
    }, REST_MS)
  }

  async #drain(): Promise<void> {
    if (this.#wanted === undefined || this.failure !== undefined) return
    const bytes = slotBytes(this.#wanted)
    this.#wanted = undefined
    try {
      if (this.#file !== undefined) await writeAt(this.#file, bytes, this.#slot * SLOT_BYTES)
      this.#slot = (this.#slot + 1) % SLOTS
    } catch (error) {
      this.failure = new Error('write mark: cannot be written', { cause: error })
    }
  }
}

/** By the callback: the handle's own method costs more, and this is done 100 times a second. */
function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  return new Promise((resolve, reject) => {
    write(file.fd, bytes, 0, bytes.length, position, (error) => {
      if (error === null) resolve()
      else reject(error)
    })
  })
}

function slotBytes(sequence: number): Uint8Array {
  const bytes = new Uint8Array(SLOT_BYTES)
  const view = new DataView(bytes.buffer)
  view.setBigUint64(0, BigInt(sequence))
  view.setUint32(SEQUENCE_BYTES, crc32(bytes.subarray(0, SEQUENCE_BYTES)))
  return bytes
}

/** The number in `slot`; 0 when it was never written or was torn. */
function readSlot(bytes: Uint8Array, slot: number): number {
  const part = bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES)
  if (part.length < SLOT_BYTES) return 0
  const view = new DataView(part.buffer, part.byteOffset, SLOT_BYTES)
  if (view.getUint32(SEQUENCE_BYTES) !== crc32(part.subarray(0, SEQUENCE_BYTES))) return 0
  return Number(view.getBigUint64(0))
}
