/**
 * Unpacked layers: `<directory>/layers/<hex of the diff_id>/` with `diff/` (the files, an overlayfs
 * lower directory) and `layer.json` (the mark that it is complete).
 *
 * Invariants: a layer is unpacked into `layers/new-<random>`, synced, marked, synced, and only then
 * renamed into place; so a directory with a digest's name is complete. What a crash leaves under
 * another name, or without its mark, is deleted on open. Layers are shared by images and containers
 * and never change. Modes 0700 above `diff/` keep setuid files of images from the host's users.
 */
import { chmod, mkdir, readFile, readdir, rename, rm } from 'node:fs/promises'
import { z } from 'zod'
import type { Clock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Random } from '../base/random.ts'
import { digestHex, digestOfHex, isDigest } from './digest.ts'
import type { Digest } from './digest.ts'
import { storageError, syncPath, systemCode, writeFileDurably } from './durable-file.ts'
import { SharedWork } from './shared-work.ts'
import { unpackLayer, unpackMode } from './unpack/layer-unpacker.ts'
import type { LayerSource, UnpackLimits } from './unpack/layer-unpacker.ts'

/** What layers need of their surroundings. */
export interface LayerComponents {
  readonly clock: Clock
  readonly log: Logger
  readonly random: Random
}

const MARK_NAME = 'layer.json'
const MARK_VERSION = 1
const FILES_NAME = 'diff'
const TEMPORARY_NAME_BYTES = 8
const DIRECTORY_MODE = 0o700
const FILES_MODE = 0o755

const markSchema = z.object({
  version: z.literal(MARK_VERSION),
  diffId: z.string(),
  mode: z.enum(['overlay', 'user']),
  entries: z.int().nonnegative(),
  sizeBytes: z.int().nonnegative(),
})
type Mark = z.infer<typeof markSchema>

/** The unpacked layers of this node. */
export class LayerStore {
  readonly #components: LayerComponents
  readonly #directory: string
  readonly #limits: UnpackLimits
  readonly #work = new SharedWork<void>()
  /** Complete layers by diff_id. */
  readonly #marks = new Map<Digest, Mark>()

  private constructor(components: LayerComponents, directory: string, limits: UnpackLimits) {
    this.#components = components
    this.#directory = `${directory}/layers`
    this.#limits = limits
  }

  /** Opens the store and deletes what is not complete. */
  static async open(
    components: LayerComponents,
    options: { readonly directory: string; readonly limits: UnpackLimits },
  ): Promise<LayerStore> {
    const store = new LayerStore(components, options.directory, options.limits)
    await mkdir(store.#directory, { recursive: true, mode: DIRECTORY_MODE })
    for (const name of await readdir(store.#directory)) await store.#adopt(name)
    return store
  }

  has(diffId: Digest): boolean {
    return this.#marks.has(diffId)
  }

  /** Sum of the layer's file contents in bytes; undefined if it is not unpacked. */
  sizeOf(diffId: Digest): number | undefined {
    return this.#marks.get(diffId)?.sizeBytes
  }

  diffIds(): readonly Digest[] {
    return [...this.#marks.keys()]
  }

  /** The overlayfs lower directory of a layer. */
  filesOf(diffId: Digest): string {
    return `${this.#directory}/${digestHex(diffId)}/${FILES_NAME}`
  }

  /** Unpacks a layer unless it is there; callers at the same time share the work. */
  ensure(source: LayerSource, signal?: AbortSignal): Promise<void> {
    if (this.has(source.diffId)) return Promise.resolve()
    const work = (shared: AbortSignal): Promise<void> => this.#unpack(source, shared)
    return this.#work.run(`layer ${source.diffId}`, work, signal)
  }

  /** Deletes a layer. Idempotent. */
  async delete(diffId: Digest): Promise<void> {
    this.#marks.delete(diffId)
    const doomed = `${this.#directory}/old-${this.#temporaryName()}`
    try {
      await rename(`${this.#directory}/${digestHex(diffId)}`, doomed)
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return
      throw storageError(error, `layer ${diffId}`)
    }
    await rm(doomed, { recursive: true, force: true })
  }

  /** Stops all unpacking. */
  close(): Promise<void> {
    return this.#work.close()
  }

  async #adopt(name: string): Promise<void> {
    const diffId = digestOfHex(name)
    const mark = isDigest(diffId) ? await this.#readMark(diffId) : undefined
    // A layer that was unpacked without root has other owners and marks than one with root.
    if (isDigest(diffId) && mark?.mode === unpackMode()) {
      this.#marks.set(diffId, mark)
      return
    }
    this.#components.log.info({ layer: name }, 'incomplete layer deleted')
    await rm(`${this.#directory}/${name}`, { recursive: true, force: true })
  }

  async #readMark(diffId: Digest): Promise<Mark | undefined> {
    let text: string
    try {
      text = await readFile(`${this.#directory}/${digestHex(diffId)}/${MARK_NAME}`, 'utf8')
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return undefined
      throw storageError(error, `layer ${diffId}`)
    }
    const mark = markSchema.safeParse(maybeJson(text))
    return mark.success && mark.data.diffId === diffId ? mark.data : undefined
  }

  async #unpack(source: LayerSource, signal: AbortSignal): Promise<void> {
    const directory = `${this.#directory}/new-${this.#temporaryName()}`
    const started = this.#components.clock.monotonicMs()
    try {
      await mkdir(directory, { mode: DIRECTORY_MODE })
      await mkdir(`${directory}/${FILES_NAME}`)
      // Not mkdir's mode: the daemon's umask must not shut the container's users out of `/`.
      await chmod(`${directory}/${FILES_NAME}`, FILES_MODE)
      const target = { directory: `${directory}/${FILES_NAME}`, limits: this.#limits }
      const summary = await unpackLayer(this.#components.clock, source, target, signal)
      const mark: Mark = {
        version: MARK_VERSION,
        diffId: source.diffId,
        mode: unpackMode(),
        entries: summary.entries,
        sizeBytes: summary.sizeBytes,
      }
      await this.#publish(directory, source.diffId, mark)
      const durationMs = Math.round(this.#components.clock.monotonicMs() - started)
      const fields = { layer: source.diffId, ...summary, durationMs }
      this.#components.log.info(fields, 'layer unpacked')
    } catch (error) {
      throw storageError(error, `layer ${source.diffId}`)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  }

  async #publish(directory: string, diffId: Digest, mark: Mark): Promise<void> {
    await writeFileDurably(directory, MARK_NAME, Buffer.from(JSON.stringify(mark)))
    try {
      await rename(directory, `${this.#directory}/${digestHex(diffId)}`)
    } catch (error) {
      // Someone else was first, after an abort and a new start: theirs is as good.
      const code = systemCode(error)
      if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
      if (!this.has(diffId)) throw new SwarmError('INTERNAL', `layer ${diffId}: unknown directory`)
    }
    await syncPath(this.#directory)
    this.#marks.set(diffId, mark)
  }

  #temporaryName(): string {
    return Buffer.from(this.#components.random.bytes(TEMPORARY_NAME_BYTES)).toString('hex')
  }
}

function maybeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
