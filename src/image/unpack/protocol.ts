/**
 * What the daemon and its unpacking child say to each other. The child gets an {@link UnpackOrder}
 * as its one argument and the uncompressed tar on standard input; it answers one {@link
 * UnpackReport} as JSON on standard output.
 */
import type { ErrorCode } from '../../base/errors.ts'

/** What to unpack, and how. */
export interface UnpackOrder {
  /** Existing, empty directory of the layer. */
  readonly directory: string
  /**
   * `overlay`: as root, chrooted, owners and capabilities kept, whiteouts for overlayfs.
   * `user`: without root, no chroot (strict path checks only), everything owned by the user, opaque
   * directories marked in `user.*` (overlay option `userxattr`).
   */
  readonly mode: 'overlay' | 'user'
  readonly maxEntries: number
  /** Sum of file contents in bytes. */
  readonly maxBytes: number
  /** Whether block and character devices are made; else they are left out. */
  readonly allowDevices: boolean
}

/** What a finished layer contains. */
export interface UnpackSummary {
  readonly entries: number
  /** Sum of file contents. */
  readonly sizeBytes: number
  /** Device nodes left out by policy. */
  readonly skippedDevices: number
  /** Extended attributes left out by policy or because the file system has none. */
  readonly skippedXattrs: number
}

/** The child's answer. */
export type UnpackReport =
  | { readonly type: 'done'; readonly summary: UnpackSummary }
  | { readonly type: 'failed'; readonly code: ErrorCode; readonly message: string }
