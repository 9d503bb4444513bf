/**
 * Reading a file of a container's root from outside. The root is untrusted: any component may be a
 * symbolic link to the host's `/etc/shadow`. Paths are resolved component by component, links and
 * `..` inside the root. Only for roots that nothing runs in yet, so that nobody changes them
 * meanwhile.
 */
import { lstat, open, readlink } from 'node:fs/promises'
import { constants } from 'node:fs'
import { join } from 'node:path'
import { hasErrno } from '../json-file.ts'

/** Most links followed in one path; the kernel's limit. */
const LINKS_MAX = 40

/** Most bytes read of a file like `/etc/passwd`; what is beyond is not looked at. */
export const ROOTFS_FILE_BYTES_MAX = 1024 * 1024

/** The host path of `path` inside `root`, its links resolved; undefined for a loop. */
export async function resolveInRoot(root: string, path: string): Promise<string | undefined> {
  const pending = path.split('/').toReversed()
  let resolved: string[] = []
  let links = 0
  while (pending.length > 0) {
    const name = pending.pop() ?? ''
    if (name === '' || name === '.') continue
    if (name === '..') {
      resolved.pop()
      continue
    }
    const target = await linkTarget(join(root, ...resolved, name))
    if (target === undefined) {
      resolved.push(name)
      continue
    }
    links += 1
    if (links > LINKS_MAX) return undefined
    if (target.startsWith('/')) resolved = []
    pending.push(...target.split('/').toReversed())
  }
  return join(root, ...resolved)
}

/** The text of a regular file inside `root`; empty when there is none. */
export async function readFileInRoot(root: string, path: string): Promise<string> {
  const resolved = await resolveInRoot(root, path)
  if (resolved === undefined) return ''
  try {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    await using file = await open(resolved, flags)
    if (!(await file.stat()).isFile()) return ''
    const buffer = Buffer.alloc(ROOTFS_FILE_BYTES_MAX)
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO')) return ''
    throw error
  }
}

async function linkTarget(path: string): Promise<string | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : undefined
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
