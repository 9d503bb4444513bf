/**
 * The tasks of this node on disk: `<data>/tasks/<task id>/task.json` beside the executor's files
 * (`task-files.ts`). This is the truth about what runs here; memory and store are read from it and
 * from the replica again after a crash.
 *
 * `seenIndex` guards against a replica that is behind: after a restart the store may not yet know a
 * task that it knew before. A task is taken for removed only when the store is at least as new as
 * the record.
 */
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Task, TaskStatus } from '../store/objects.ts'
import type { Readiness } from './health/readiness.ts'
import { readJsonFile, writeJsonFile } from './json-file.ts'
import type { TaskNetworking } from './ports.ts'

/** Version of the record; another version is not read. */
const RECORD_VERSION = 1

/** What the agent keeps of one task. */
export interface TaskRecord {
  /** As last seen in the store, or as made here by a local restart. */
  readonly task: Task
  /** `local`: made by this node's restart; the store does not know it yet, as far as we know. */
  readonly origin: 'store' | 'local'
  /** The store's index when this was written. */
  readonly seenIndex: number
  /** What this node observed last. */
  readonly status: TaskStatus
  /** Of a local task: how its predecessor ended, to be reported with it. */
  readonly predecessorStatus?: TaskStatus
  /** Of a local task: nanoseconds before it may run. */
  readonly delayNs?: number
  /** What the image wants as stop signal; known once the task was planned. */
  readonly imageStopSignal?: string
  /** How one knows that it is ready; known once the task was planned. */
  readonly readiness?: Readiness
  /** Kept so that a boot without any peer has it. */
  readonly networking?: TaskNetworking
}

/** All task directories of a node. */
export class TaskDirectories {
  readonly #root: string

  constructor(dataDirectory: string) {
    this.#root = join(dataDirectory, 'tasks')
  }

  /** The directory of a task. */
  path(taskId: string): string {
    return join(this.#root, taskId)
  }

  /** Replaces a record; makes the directory when it is new. */
  async write(record: TaskRecord): Promise<void> {
    const directory = this.path(record.task.id)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    await writeJsonFile(join(directory, 'task.json'), { version: RECORD_VERSION, ...record })
  }

  /**
   * All records. `unreadable` are directories whose record is torn; nothing is known of them but
   * their id, which is their name.
   */
  async list(): Promise<{ readonly records: TaskRecord[]; readonly unreadable: string[] }> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 })
    const records: TaskRecord[] = []
    const unreadable: string[] = []
    for (const id of await readdir(this.#root)) {
      const record = decodeRecord(await readJsonFile(join(this.path(id), 'task.json')))
      if (record?.task.id === id) records.push(record)
      else unreadable.push(id)
    }
    return { records, unreadable }
  }

  /** Deletes what the executor left of a directory. */
  async delete(taskId: string): Promise<void> {
    await rm(this.path(taskId), { recursive: true, force: true })
  }
}

/** Only this module writes the file; a version and the members that all depend on are checked. */
function decodeRecord(value: unknown): TaskRecord | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (!('version' in value) || value.version !== RECORD_VERSION) return undefined
  if (!('task' in value) || !('status' in value) || !('seenIndex' in value)) return undefined
  return value as unknown as TaskRecord
}
