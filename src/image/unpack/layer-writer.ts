/**
 * Applies the entries of a layer tar to a directory, as a layer for overlayfs.
 *
 * - `.wh.X` becomes a character device 0:0, `.wh..wh..opq` the parent's opaque mark; other
 *   `.wh..wh.` names are aufs' own and left out; `.wh.`, `.wh..`, `.wh...` are refused (they would
 *   name the layer itself). A whiteout hides lower layers only, never this layer's own entries.
 * - What exists is removed first (but a directory stays for a directory); files are made with
 *   O_EXCL|O_NOFOLLOW; owner before mode (chown clears setuid); directory times last.
 * - Extended attributes: `security.capability` (after chown) and `user.*` without `user.overlay.*`.
 *
 * Sources: OCI image-spec `layer.md`; kernel `overlayfs.rst` (whiteouts and opaque directories).
 */
import {
  chmodSync,
  closeSync,
  constants,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import type { Stats } from 'node:fs'
import { assert } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import { systemCode } from '../durable-file.ts'
import { badTar } from '../tar-header.ts'
import type { TarEntry } from '../tar-header.ts'
import { LayerPaths, join } from './layer-path.ts'
import type { LayerPath } from './layer-path.ts'
import type { UnpackOrder, UnpackSummary } from './protocol.ts'
import { makeNode, setXattr } from './system-calls.ts'

const WHITEOUT_PREFIX = '.wh.'
const WHITEOUT_META_PREFIX = '.wh..wh.'
const OPAQUE_NAME = '.wh..wh..opq'
const CREATE_FLAGS =
  constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
const WHITEOUT_NODE = { type: 'characterDevice', major: 0, minor: 0 } as const
const SPECIAL_BITS = 0o7000
/** In user mode the owner can always read, and enter and change directories. */
const OWNER_DIRECTORY = 0o700
const OWNER_FILE = 0o400
/** Longest value of an extended attribute (`XATTR_SIZE_MAX`). */
const MAX_XATTR_BYTES = 65_536

/** Writes one layer. */
export class LayerWriter {
  readonly #order: UnpackOrder
  readonly #paths: LayerPaths
  /** Directories whose mode and times are set at the end, by resolved path. */
  readonly #directories = new Map<string, TarEntry>()
  /** Device nodes that were left out: hard links to them are left out too. */
  readonly #skipped = new Set<string>()
  #file:
    | { readonly path: string; readonly descriptor: number; readonly entry: TarEntry }
    | undefined
  #entries = 0
  #sizeBytes = 0
  #skippedXattrs = 0

  /** `root` is `''` inside a chroot, else the layer's directory. */
  constructor(order: UnpackOrder, root: string) {
    this.#order = order
    this.#paths = new LayerPaths(root)
  }

  /** Takes the next entry. @throws INVALID_ARGUMENT, RESOURCE_EXHAUSTED, system errors */
  begin(entry: TarEntry): void {
    assert(this.#file === undefined, 'the entry before has ended')
    this.#entries++
    const location = this.#paths.locate(entry.path)
    if (location.name === '') {
      this.#rootEntry(entry)
      return
    }
    if (location.name.startsWith(WHITEOUT_PREFIX)) {
      this.#whiteout(location)
      return
    }
    this.#create(entry, location)
  }

  /** Content of the entry that began last. */
  write(bytes: Uint8Array): void {
    this.#sizeBytes += bytes.length
    if (this.#sizeBytes > this.#order.maxBytes) {
      throw new SwarmError('RESOURCE_EXHAUSTED', `layer: more than ${this.#order.maxBytes} bytes`)
    }
    const file = this.#file
    if (file === undefined) return
    let offset = 0
    while (offset < bytes.length) offset += writeSync(file.descriptor, bytes, offset)
  }

  /** The entry's content is complete. */
  end(): void {
    const file = this.#file
    if (file === undefined) return
    this.#file = undefined
    closeSync(file.descriptor)
    this.#setMetadata(file.entry, file.path)
  }

  /** The archive is complete. */
  finish(): UnpackSummary {
    for (const [path, entry] of [...this.#directories].toReversed()) {
      chmodSync(this.#paths.system(path), this.#mode(entry))
      lutimesSync(this.#paths.system(path), entry.modifiedSeconds, entry.modifiedSeconds)
    }
    return {
      entries: this.#entries,
      sizeBytes: this.#sizeBytes,
      skippedDevices: this.#skipped.size,
      skippedXattrs: this.#skippedXattrs,
    }
  }

  #rootEntry(entry: TarEntry): void {
    if (entry.type !== 'directory') throw badTar('the root is not a directory')
    this.#setMetadata(entry, '')
  }

  #whiteout(location: LayerPath): void {
    if (location.name === OPAQUE_NAME) {
      this.#setOpaque(location.parent)
      return
    }
    const hidden = location.name.slice(WHITEOUT_PREFIX.length)
    if (hidden === '' || hidden === '.' || hidden === '..') {
      throw badTar(`whiteout ${JSON.stringify(location.name)} names no file`)
    }
    if (location.name.startsWith(WHITEOUT_META_PREFIX)) return
    const path = join({ parent: location.parent, name: hidden })
    const existing = this.#paths.stat(path)
    if (existing === undefined) makeNode(this.#paths.system(path), 0, WHITEOUT_NODE)
    else if (existing.isDirectory()) this.#setOpaque(path)
  }

  #setOpaque(path: string): void {
    const name = this.#order.mode === 'overlay' ? 'trusted.overlay.opaque' : 'user.overlay.opaque'
    setXattr(this.#paths.system(path), name, Buffer.from('y'))
  }

  #create(entry: TarEntry, location: LayerPath): void {
    const path = join(location)
    const existing = this.#paths.stat(path)
    const keeps = existing?.isDirectory() === true && entry.type === 'directory'
    // The target of a hard link is checked before what it would replace goes.
    const target = entry.type === 'hardlink' ? this.#linkTarget(entry, path) : undefined
    if (existing !== undefined && !keeps) this.#remove(path, existing)
    this.#skipped.delete(path)
    switch (entry.type) {
      case 'directory':
        if (!keeps) this.#makeDirectory(path, isWhiteout(existing))
        break
      case 'file': {
        const descriptor = openSync(this.#paths.system(path), CREATE_FLAGS, 0o600)
        this.#file = { path, descriptor, entry }
        return
      }
      case 'symlink':
        symlinkSync(Buffer.from(entry.linkPath, 'latin1'), this.#paths.system(path))
        break
      case 'hardlink':
        this.#makeHardLink(path, target)
        return
      case 'fifo':
        makeNode(this.#paths.system(path), 0o600, { type: 'fifo' })
        break
      case 'characterDevice':
      case 'blockDevice':
        if (!this.#maybeMakeDevice(path, entry, entry.type)) return
        break
      default:
        entry.type satisfies never
    }
    this.#setMetadata(entry, path)
  }

  #makeDirectory(path: string, isOpaque: boolean): void {
    mkdirSync(this.#paths.system(path), OWNER_DIRECTORY)
    if (isOpaque) this.#setOpaque(path)
  }

  /** Undefined: the target is a device that was left out. */
  #linkTarget(entry: TarEntry, path: string): string | undefined {
    const target = join(this.#paths.locate(entry.linkPath))
    if (this.#skipped.has(target)) return undefined
    const stat = this.#paths.stat(target)
    if (stat === undefined) throw badTar(`hard link target ${entry.linkPath} does not exist`)
    if (stat.isDirectory()) throw badTar(`hard link target ${entry.linkPath} is a directory`)
    if (target === path) throw badTar(`hard link ${entry.path} names itself`)
    return target
  }

  #makeHardLink(path: string, target: string | undefined): void {
    if (target === undefined) {
      this.#skipped.add(path)
      return
    }
    linkSync(this.#paths.system(target), this.#paths.system(path))
  }

  #maybeMakeDevice(
    path: string,
    entry: TarEntry,
    type: 'characterDevice' | 'blockDevice',
  ): boolean {
    if (!this.#order.allowDevices || this.#order.mode === 'user') {
      this.#skipped.add(path)
      return false
    }
    const node = { type, major: entry.major, minor: entry.minor }
    makeNode(this.#paths.system(path), 0o600, node)
    return true
  }

  #remove(path: string, existing: Stats): void {
    this.#paths.forget()
    if (!existing.isDirectory()) {
      unlinkSync(this.#paths.system(path))
      return
    }
    rmSync(this.#paths.system(path), { recursive: true })
    for (const directory of this.#directories.keys()) {
      if (directory === path || directory.startsWith(`${path}/`))
        this.#directories.delete(directory)
    }
  }

  #setMetadata(entry: TarEntry, path: string): void {
    const system = this.#paths.system(path)
    if (this.#order.mode === 'overlay') lchownSync(system, entry.uid, entry.gid)
    if (entry.type === 'directory') {
      this.#directories.delete(path)
      this.#directories.set(path, entry)
    } else if (entry.type !== 'symlink') {
      chmodSync(system, this.#mode(entry))
    }
    for (const [name, value] of entry.xattrs) this.#setXattr(system, name, value)
    if (entry.type !== 'directory') {
      lutimesSync(system, entry.modifiedSeconds, entry.modifiedSeconds)
    }
  }

  #mode(entry: TarEntry): number {
    if (this.#order.mode === 'overlay') return entry.mode
    const owner = entry.type === 'directory' ? OWNER_DIRECTORY : OWNER_FILE
    return (entry.mode & ~SPECIAL_BITS) | owner
  }

  #setXattr(path: Buffer, name: string, value: Uint8Array): void {
    const isCapability = name === 'security.capability' && this.#order.mode === 'overlay'
    const isUser = name.startsWith('user.') && !name.startsWith('user.overlay.')
    if ((!isCapability && !isUser) || name.includes('\0') || value.length > MAX_XATTR_BYTES) {
      this.#skippedXattrs++
      return
    }
    try {
      setXattr(path, name, value)
    } catch (error) {
      // No such attributes on this file system, or none on this kind of file.
      const code = systemCode(error)
      if (code !== 'ENOTSUP' && code !== 'EOPNOTSUPP' && code !== 'EPERM') throw error
      this.#skippedXattrs++
    }
  }
}

function isWhiteout(stat: Stats | undefined): boolean {
  return stat?.isCharacterDevice() === true && stat.rdev === 0
}
