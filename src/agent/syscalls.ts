/**
 * mount(2) and umount2(2) without a process: through koffi (about 5 µs a call), or by the `mount`
 * and
 * `umount` tools where koffi cannot load. Node itself has neither.
 */
import { constants } from 'node:os'
import { SwarmError } from '../base/errors.ts'
import { runTool } from './run-command.ts'

/** Longest option text that mount(2) takes: one page, with its final zero. */
export const MOUNT_OPTIONS_BYTES_MAX = 4095

/**
 * Lazy detach: the mount vanishes from the tree at once, and for good when its last user is gone.
 */
const MNT_DETACH = 2
/** Not to follow a symbolic link at the end of the target. */
const UMOUNT_NOFOLLOW = 8

/** A filesystem to mount. */
export interface MountRequest {
  readonly source: string
  readonly target: string
  readonly type: string
  readonly options: string
  /** Paths in `options` are relative to this directory. */
  readonly cwd?: string
}

/** Mounts and unmounts. */
export interface Mounter {
  /** How: `koffi` or `mount(8)`. */
  readonly name: string
  /** @throws RUNTIME_FAILED */
  mount(request: MountRequest): Promise<void>
  /** Detaches what is mounted at `target`; does nothing when nothing is. @throws RUNTIME_FAILED */
  unmount(target: string): Promise<void>
}

type NativeFunction = (...values: readonly (string | number | null)[]) => number

/** The best mounter of this machine. */
export async function openMounter(): Promise<Mounter> {
  try {
    const { default: koffi } = await import('koffi')
    const library = koffi.load(null)
    const mount = library.func(
      'int mount(const char *from, const char *to, const char *type, ulong flags, const char *o)',
    ) as NativeFunction
    const unmount = library.func('int umount2(const char *target, int flags)') as NativeFunction
    return new NativeMounter({ mount, unmount, errno: () => koffi.errno() })
  } catch {
    // Any failure to load means the same: this platform has no koffi, and the tools do the work.
    return new ToolMounter()
  }
}

interface NativeCalls {
  readonly mount: NativeFunction
  readonly unmount: NativeFunction
  errno(): number
}

class NativeMounter implements Mounter {
  readonly name = 'koffi'
  readonly #calls: NativeCalls
  readonly #tools = new ToolMounter()

  constructor(calls: NativeCalls) {
    this.#calls = calls
  }

  async mount(request: MountRequest): Promise<void> {
    // The working directory is the whole process's: only another process may have a different one.
    if (request.cwd !== undefined) return this.#tools.mount(request)
    const { source, target, type, options } = request
    if (this.#calls.mount(source, target, type, 0, options) === 0) return
    throw mountError(request, errnoName(this.#calls.errno()))
  }

  async unmount(target: string): Promise<void> {
    if (this.#calls.unmount(target, MNT_DETACH | UMOUNT_NOFOLLOW) === 0) return
    const errno = this.#calls.errno()
    // EINVAL: not a mount point. ENOENT: no such path.
    if (errno === constants.errno.EINVAL || errno === constants.errno.ENOENT) return
    throw new SwarmError('RUNTIME_FAILED', `unmount "${target}": ${errnoName(errno)}`)
  }
}

/** mount(8) and umount(8). */
export class ToolMounter implements Mounter {
  readonly name = 'mount(8)'

  async mount(request: MountRequest): Promise<void> {
    const { source, target, type, options } = request
    const argv = ['mount', '-t', type, '-o', options, source, target]
    await runTool(argv, request.cwd === undefined ? {} : { cwd: request.cwd })
  }

  async unmount(target: string): Promise<void> {
    try {
      await runTool(['umount', '--lazy', '--no-canonicalize', target])
    } catch (error) {
      if (/not mounted|no mount point|not found|No such file/i.test(String(error))) return
      throw error
    }
  }
}

function mountError(request: MountRequest, reason: string): SwarmError {
  return new SwarmError('RUNTIME_FAILED', `mount ${request.type} "${request.target}": ${reason}`)
}

function errnoName(errno: number): string {
  const entry = Object.entries(constants.errno).find(([, value]) => value === errno)
  return entry?.[0] ?? `errno ${errno}`
}
