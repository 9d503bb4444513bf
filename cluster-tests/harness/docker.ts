/** The unmodified docker CLI, where this machine has one. */
import { run } from './daemon.ts'
import type { CommandResult, Daemon } from './daemon.ts'

/** Whether `docker` is on the path. */
export function hasDocker(): Promise<boolean> {
  return run('docker', ['--version']).then(
    ({ code }) => code === 0,
    () => false,
  )
}

/** Runs `docker` against the socket of a daemon. */
export function docker(daemon: Daemon, ...words: readonly string[]): Promise<CommandResult> {
  return run('docker', ['--host', `unix://${daemon.socket}`, ...words])
}
