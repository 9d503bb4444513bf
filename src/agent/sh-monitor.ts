/**
 * The monitor that is always there: `/bin/sh` waits for one command and writes its exit code. Used
 * for OCI runtimes where conmon is missing, and by the process executor. Its log is raw: one file a
 * stream, no times.
 *
 * The shell catches HUP, INT and TERM with an empty handler rather than ignoring them: an ignored
 * signal would stay ignored in the command, a handled one is reset. The command runs in the
 * foreground, because POSIX shells let background commands ignore SIGINT.
 */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { SwarmError } from '../base/errors.ts'
import type { TaskFiles } from './task-files.ts'

const SCRIPT = `trap : HUP INT TERM
exit_file=$1; shift
"$@" </dev/null
echo "$?" >"$exit_file.tmp" && mv "$exit_file.tmp" "$exit_file"
`

/** What the monitor runs. */
export interface ShMonitorRequest {
  readonly argv: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
}

/** Starts a monitor in a session of its own. @returns its pid. @throws RUNTIME_FAILED */
export function spawnShMonitor(files: TaskFiles, request: ShMonitorRequest): Promise<number> {
  const stdout = openSync(files.rawLog('stdout'), 'a', 0o600)
  const stderr = openSync(files.rawLog('stderr'), 'a', 0o600)
  try {
    const child = spawn('/bin/sh', ['-c', SCRIPT, 'skein-monitor', files.exit, ...request.argv], {
      detached: true,
      stdio: ['ignore', stdout, stderr],
      cwd: request.cwd,
      env: { ...request.env },
    })
    child.unref()
    return new Promise((resolve, reject) => {
      child.once('error', (cause) => {
        reject(new SwarmError('RUNTIME_FAILED', 'sh monitor: cannot run /bin/sh', { cause }))
      })
      child.once('spawn', () => {
        resolve(child.pid ?? 0)
      })
    })
  } finally {
    closeSync(stdout)
    closeSync(stderr)
  }
}
