/**
 * The system calls that Node lacks, through koffi, for the unpacking child only (the daemon never
 * loads koffi for this). Paths are bytes. Each throws an error with the system's code.
 */
import { getSystemErrorName } from 'node:util'
import koffi from 'koffi'

const S_IFCHR = 0o020000
const S_IFBLK = 0o060000
const S_IFIFO = 0o010000

const libc = koffi.load(null)
const chrootCall = libc.func('int chroot(const void *path)')
const mknodCall = libc.func('int mknod(const void *path, uint32_t mode, uint64_t device)')
const setXattrCall = libc.func(
  'int lsetxattr(const void *path, const void *name, const void *value, size_t size, int flags)',
)
const syncCall = libc.func('int syncfs(int descriptor)')

/** An error of the operating system, with the shape of Node's. */
class SystemCallError extends Error {
  override readonly name = 'SystemCallError'
  readonly code: string

  constructor(code: string, call: string) {
    super(`${call}: ${code}`)
    this.code = code
  }
}

/** Makes `directory` the root of this process, and its working directory. */
export function changeRoot(directory: string): void {
  check(chrootCall(cString(Buffer.from(directory))), 'chroot')
  process.chdir('/')
}

/** Kinds of special files. */
export type SpecialFile =
  | {
      readonly type: 'characterDevice' | 'blockDevice'
      readonly major: number
      readonly minor: number
    }
  | { readonly type: 'fifo' }

/** Makes a special file. `mode` has permission bits only. */
export function makeNode(path: Uint8Array, mode: number, node: SpecialFile): void {
  if (node.type === 'fifo') {
    check(mknodCall(cString(path), S_IFIFO | mode, 0), 'mknod')
    return
  }
  const format = node.type === 'characterDevice' ? S_IFCHR : S_IFBLK
  check(mknodCall(cString(path), format | mode, deviceNumber(node)), 'mknod')
}

/** Sets an extended attribute of the file itself, not of what a symbolic link names. */
export function setXattr(path: Uint8Array, name: string, value: Uint8Array): void {
  const bytes = Buffer.from(value)
  check(
    setXattrCall(cString(path), cString(Buffer.from(name)), bytes, bytes.length, 0),
    'lsetxattr',
  )
}

/** Writes the whole file system that holds `descriptor` to the disk. */
export function syncFileSystem(descriptor: number): void {
  check(syncCall(descriptor), 'syncfs')
}

/** Linux' encoding of a device number (glibc `gnu_dev_makedev`). */
function deviceNumber({
  major,
  minor,
}: {
  readonly major: number
  readonly minor: number
}): bigint {
  const high = BigInt(major)
  const low = BigInt(minor)
  return (
    (low & 0xffn) | ((high & 0xfffn) << 8n) | ((low & ~0xffn) << 12n) | ((high & ~0xfffn) << 32n)
  )
}

function cString(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([bytes, Buffer.of(0)])
}

function check(result: unknown, call: string): void {
  if (result === 0) return
  throw new SystemCallError(getSystemErrorName(-koffi.errno()), call)
}
