/**
 * Health checks of supervised processes: a process beside the task, with its files as root where
 * it has some, its user, environment and directory. Like the task it is in no cgroup of its own.
 */
import { isAbsolute, join } from 'node:path'
import type { Clock } from '../../base/clock.ts'
import { runCheck } from '../health/run-check.ts'
import type { CheckCommand } from '../health/run-check.ts'
import { readJsonFile, writeJsonFile } from '../json-file.ts'
import { findTool } from '../oci/probe.ts'
import type { CheckResult } from '../ports.ts'
import { isAlive } from '../process-mark.ts'
import type { TaskFiles } from '../task-files.ts'
import type { ProcessMode } from './launch-script.ts'

const CHECK_FILE = 'check.json'

/** A check as the task directory keeps it; only this module writes the file. */
export interface ProcessCheck {
  readonly argv: readonly string[]
  readonly env: readonly string[]
  readonly cwd: string
  readonly user?: { readonly uid: number; readonly gid: number }
}

/** Writes what {@link checkProcess} runs. */
export async function writeProcessCheck(directory: string, check: ProcessCheck): Promise<void> {
  const { argv, env, cwd, user } = check
  await writeJsonFile(join(directory, CHECK_FILE), { argv, env, cwd, user })
}

/** Runs the check of a running task. */
export async function checkProcess(
  { clock, mode }: { readonly clock: Clock; readonly mode: ProcessMode },
  files: TaskFiles,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<CheckResult> {
  const check = (await readJsonFile(join(files.directory, CHECK_FILE))) as ProcessCheck | undefined
  const mark = await files.readProcess()
  if (check === undefined || mark === undefined || !isAlive(mark)) {
    return { exitCode: undefined, output: 'the task does not run', isGone: () => true }
  }
  return runCheck(clock, { ...commandOf(check, mode, mark.pid), ...options })
}

function commandOf(
  check: ProcessCheck,
  mode: ProcessMode,
  pid: number,
): Pick<CheckCommand, 'argv' | 'env' | 'cwd' | 'user'> {
  const { argv, cwd, user } = check
  const env = Object.fromEntries(check.env.map(variable))
  if (mode === 'host') return { argv, env, cwd, ...(user === undefined ? {} : { user }) }
  const root = `/proc/${pid}/root`
  const inside = isAbsolute(cwd) ? cwd : `/${cwd}`
  const enter = [
    findTool('nsenter') ?? 'nsenter',
    `--target=${pid}`,
    ...(mode === 'user-chroot' ? ['--user', '--preserve-credentials'] : []),
    '--mount',
    `--root=${root}`,
    `--wd=${root}${inside}`,
    ...(user === undefined ? [] : [`--setuid=${user.uid}`, `--setgid=${user.gid}`]),
  ]
  return { argv: [...enter, '--', ...argv], env }
}

function variable(entry: string): [string, string] {
  const separator = entry.indexOf('=')
  return [entry.slice(0, separator), entry.slice(separator + 1)]
}
