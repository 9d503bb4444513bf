/**
 * Paths inside a layer that is being unpacked.
 *
 * A layer's paths are an attacker's input. `..` is resolved inside the root and cannot climb above
 * it; a parent that is a symbolic link is legal in images (merged /usr) and is followed *inside the
 * root*, link by link, absolute targets from the root on (the way of securejoin). Nothing here
 * relies on the chroot around it, and the chroot does not rely on this: two walls.
 *
 * Paths are byte strings; a resolved path has no leading slash, `''` is the root itself.
 */
import { lstatSync, mkdirSync, readlinkSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { badTar } from '../tar-header.ts'

/** Symbolic links that one path may lead through, as in the kernel. */
const MAX_LINKS = 40
/** `PATH_MAX` and `NAME_MAX` of Linux, in bytes. */
const MAX_PATH_BYTES = 4096
const MAX_COMPONENT_BYTES = 255
const PARENT_MODE = 0o755

/** Where an entry goes. */
export interface LayerPath {
  /** Resolved parent: a real directory. */
  readonly parent: string
  /** Last component; empty for the root. */
  readonly name: string
}

/** The components of a path with `.` and `..` resolved below the root. @throws INVALID_ARGUMENT */
export function normalise(path: string): string[] {
  if (path.includes('\0')) throw badTar('a path contains a NUL byte')
  if (path.length > MAX_PATH_BYTES) throw badTar(`a path is longer than ${MAX_PATH_BYTES} bytes`)
  const components: string[] = []
  for (const component of path.split('/')) {
    if (component === '' || component === '.') continue
    if (component.length > MAX_COMPONENT_BYTES) {
      throw badTar(`a path component is longer than ${MAX_COMPONENT_BYTES} bytes`)
    }
    if (component === '..') components.pop()
    else components.push(component)
  }
  return components
}

/** Finds parents below one root. */
export class LayerPaths {
  readonly #root: string
  /** Unresolved parent → resolved, valid as long as no link or removal changes the tree. */
  readonly #resolved = new Map<string, string>()

  /** `root` is `''` inside a chroot, else the layer's directory. */
  constructor(root: string) {
    this.#root = root
  }

  /** The path for a system call. */
  system(path: string): Buffer {
    return Buffer.from(`${this.#root}/${path}`, 'latin1')
  }

  /** What is at a resolved path, links not followed. */
  stat(path: string): Stats | undefined {
    return lstatSync(this.system(path), { throwIfNoEntry: false })
  }

  /** Resolves an entry's path, making missing parents. @throws INVALID_ARGUMENT */
  locate(path: string): LayerPath {
    const components = normalise(path)
    const name = components.pop() ?? ''
    return { parent: this.#directory(components), name }
  }

  /** To be called when something that may have been a parent was removed or replaced. */
  forget(): void {
    this.#resolved.clear()
  }

  #directory(components: readonly string[]): string {
    const key = components.join('/')
    const known = this.#resolved.get(key)
    if (known !== undefined) return known
    const resolved = this.#walk(components)
    this.#resolved.set(key, resolved)
    return resolved
  }

  #walk(components: readonly string[]): string {
    const pending = components.toReversed()
    const resolved: string[] = []
    let links = 0
    for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
      if (part === '..') {
        resolved.pop()
        continue
      }
      const target = this.#step(resolved, part)
      if (target === undefined) continue
      links++
      if (links > MAX_LINKS) throw badTar(`too many symbolic links in ${components.join('/')}`)
      if (target.startsWith('/')) resolved.length = 0
      const parts = target.split('/').filter((component) => component !== '' && component !== '.')
      pending.push(...parts.toReversed())
    }
    return resolved.join('/')
  }

  /** Enters `part`; returns the target when it is a symbolic link. */
  #step(resolved: string[], part: string): string | undefined {
    const path = [...resolved, part].join('/')
    const stat = this.stat(path)
    if (stat?.isSymbolicLink() === true) return readlinkSync(this.system(path), 'latin1')
    if (stat === undefined) mkdirSync(this.system(path), PARENT_MODE)
    else if (!stat.isDirectory()) throw badTar(`parent ${path} is not a directory`)
    resolved.push(part)
    return undefined
  }
}

/** Joins a resolved parent and a name. */
export function join({ parent, name }: LayerPath): string {
  return parent === '' ? name : `${parent}/${name}`
}
