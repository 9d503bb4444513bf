/**
 * The C addon (`native/`): its functions as types, and its loading. It is optional. Where it was
 * not built, the reason is one sentence, and Skein balances in userspace.
 */
import { createRequire } from 'node:module'
import { errorText } from '../../base/errors.ts'

/** Where `scripts/build-native.sh` puts it. */
const ADDON_PATH = '../../../build/native/netlink.node'

/** An open socket. Opaque; closed by `close` or when it is collected. */
export interface NativeSocket {
  readonly nativeSocket: never
}

/**
 * The addon's functions. Every error has a positive `errno`. `netns` is a path or null = this one.
 */
export interface Native {
  /** Opens a netlink socket in a namespace. Buffer sizes: 0 = the system's. */
  open(
    protocol: number,
    netns: string | null,
    receiveBytes: number,
    sendBytes: number,
  ): Promise<NativeSocket>
  /**
   * Sends `request` and collects the kernel's answers until the message `lastSequence` is
   * acknowledged, done or in error, or `headSequence` (0 = none) is in error. One at a time a
   * socket.
   */
  exchange(
    socket: NativeSocket,
    request: Uint8Array,
    lastSequence: number,
    headSequence: number,
    timeoutMs: number,
  ): Promise<Uint8Array>
  /** Joins a multicast group; the first callback starts the delivery. */
  subscribe(
    socket: NativeSocket,
    group: number,
    onEvents: ((bytes: Uint8Array, errno: number) => void) | null,
  ): void
  /** Ends a running exchange with ECANCELED and the deliveries. */
  close(socket: NativeSocket): void
  /** Reads a small file inside a namespace: `/proc/sys/net` shows the reader's. */
  readFile(netns: string | null, path: string): Promise<Uint8Array>
  /** Writes an existing file inside a namespace, in one call. */
  writeFile(netns: string | null, path: string, bytes: Uint8Array): Promise<void>
  /** Makes a namespace that lives by a mount on the new file `path`. */
  createNetns(path: string): Promise<void>
  /** Takes the mount and the file away. */
  removeNetns(path: string): Promise<void>
}

/** The loaded addon, or why there is none. */
export type NativeLoad =
  | { readonly type: 'loaded'; readonly native: Native }
  | { readonly type: 'absent'; readonly reason: string }

/** Loads the addon; a second call gives the same one. */
export function loadNative(path: string = ADDON_PATH): NativeLoad {
  try {
    return { type: 'loaded', native: createRequire(import.meta.url)(path) as Native }
  } catch (error) {
    // Every failure means the same to the caller: this machine has no addon.
    const [firstLine] = errorText(error).split('\n')
    return { type: 'absent', reason: `the netlink addon is not built: ${firstLine ?? ''}` }
  }
}

/** The path of the network namespace that the process `pid` is in. */
export function netnsOfProcess(pid: number): string {
  return `/proc/${pid}/ns/net`
}
