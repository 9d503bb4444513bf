/**
 * Monitors: the small process that stays with a container, keeps its log and writes its exit code,
 * whatever happens to the daemon. Two implementations, one protocol on disk (`task-files.ts`).
 */
import type { TaskFiles } from '../task-files.ts'
import type { OciRuntime } from './runtime.ts'

/** How a container is created, started and watched. */
export interface Monitor {
  readonly name: 'conmon' | 'sh'
  /**
   * Creates the container of the bundle in `files` without letting its process run.
   * @returns its pid, or undefined when this monitor can only create and start in one step
   * @throws RUNTIME_FAILED with the runtime's words
   */
  create(runtime: OciRuntime, files: TaskFiles): Promise<number | undefined>
  /** Lets it run. @returns its pid. @throws RUNTIME_FAILED */
  start(runtime: OciRuntime, files: TaskFiles): Promise<number>
}
