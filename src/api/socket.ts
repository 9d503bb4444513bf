/**
 * The unix socket: mode 0660 from its first moment, and never stolen from a living daemon.
 */
import { lstat, mkdir, unlink } from 'node:fs/promises'
import type { Server } from 'node:http'
import { connect } from 'node:net'
import { dirname } from 'node:path'
import { SwarmError } from '../base/errors.ts'

/** Owner and group may connect. */
const SOCKET_UMASK = 0o117

/** Longest socket path that Linux takes (`sun_path`, without the final zero byte). */
const SOCKET_PATH_BYTES_MAX = 107

/**
 * Makes the path free to listen on: creates its folder, removes a socket that nobody answers on.
 * @throws FAILED_PRECONDITION when somebody answers or the path is something else; INVALID_ARGUMENT
 * when the path is too long
 */
export async function claimSocketPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
    throw new SwarmError(
      'INVALID_ARGUMENT',
      `socket ${path}: longer than ${SOCKET_PATH_BYTES_MAX} bytes`,
    )
  }
  await mkdir(dirname(path), { recursive: true })
  const found = await existing(path)
  if (found === undefined) return
  if (!found.isSocket()) {
    throw new SwarmError('FAILED_PRECONDITION', `socket ${path}: the path is not a socket`)
  }
  if (await answers(path)) {
    throw new SwarmError('FAILED_PRECONDITION', `socket ${path}: another daemon answers on it`)
  }
  await unlink(path)
}

/** Listens with mode 0660. The umask is changed only while the kernel makes the file. */
export function listenOnSocket(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    const before = process.umask(SOCKET_UMASK)
    try {
      server.listen(path, () => {
        server.off('error', reject)
        resolve()
      })
    } finally {
      process.umask(before)
    }
  })
}

async function existing(path: string): Promise<Awaited<ReturnType<typeof lstat>> | undefined> {
  try {
    return await lstat(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw new SwarmError('FAILED_PRECONDITION', `socket ${path}: not accessible`, { cause: error })
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
      else reject(new SwarmError('FAILED_PRECONDITION', `socket ${path}`, { cause: error }))
    })
  })
}
