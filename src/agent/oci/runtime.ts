/**
 * One OCI runtime (crun or runc) as a command. Its state lives under `/run`: it is about processes,
 * and must be gone after a reboot.
 *
 * crun 1.8 refuses to create containers where cgroup v1 has a v2 tree with controllers beside it
 * ("hybrid"). Creating in a private mount namespace without that tree works, and changes nothing on
 * the host. Only `create` and `run` need it (measured: `start`, `kill`, `delete` do not look).
 */
import { SwarmError } from '../../base/errors.ts'
import { runCommand, runTool } from '../run-command.ts'

/** The extra cgroup tree that crun 1.8 stumbles over. */
const UNIFIED_TREE = '/sys/fs/cgroup/unified'

/** A runtime and how it is called. */
export interface OciRuntime {
  readonly name: 'crun' | 'runc'
  /** Absolute path. */
  readonly path: string
  /** Where the runtime keeps its state; on tmpfs. */
  readonly stateRoot: string
  /** Create containers in a mount namespace without the hybrid cgroup tree. */
  readonly hidesUnifiedTree: boolean
}

/** What the runtime says of a container. */
export interface RuntimeState {
  readonly status: string
  readonly pid: number
}

/** `argv`, wrapped so that a runtime that it starts can create containers here. */
export function wrapForCreate(runtime: OciRuntime, argv: readonly string[]): readonly string[] {
  if (!runtime.hidesUnifiedTree) return argv
  const script = `umount ${UNIFIED_TREE}; exec "$@"`
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', ...argv]
}

/** Lets a created container run. @throws RUNTIME_FAILED */
export async function startContainer(runtime: OciRuntime, id: string): Promise<void> {
  await runTool([runtime.path, `--root=${runtime.stateRoot}`, 'start', id])
}

/** Kills what is left of a container and forgets it, cgroup included. Unknown ones are no error. */
export async function deleteContainer(runtime: OciRuntime, id: string): Promise<void> {
  const argv = [runtime.path, `--root=${runtime.stateRoot}`, 'delete', '--force', id]
  const result = await runCommand(argv)
  if (result.code === 0 || isUnknown(result.stderr)) return
  throw new SwarmError('RUNTIME_FAILED', `container ${id}: ${result.stderr.trim()}`)
}

/** The runtime's view of a container; undefined when it knows none. */
export async function containerState(
  runtime: OciRuntime,
  id: string,
): Promise<RuntimeState | undefined> {
  const argv = [runtime.path, `--root=${runtime.stateRoot}`, 'state', id]
  const result = await runCommand(argv)
  if (result.code !== 0) {
    if (isUnknown(result.stderr)) return undefined
    throw new SwarmError('RUNTIME_FAILED', `container ${id}: ${result.stderr.trim()}`)
  }
  const state: unknown = JSON.parse(result.stdout)
  if (typeof state !== 'object' || state === null) return undefined
  if (!('status' in state) || typeof state.status !== 'string') return undefined
  const pid = 'pid' in state && typeof state.pid === 'number' ? state.pid : 0
  return { status: state.status, pid }
}

function isUnknown(words: string): boolean {
  return /does not exist|No such file or directory|not found/i.test(words)
}
