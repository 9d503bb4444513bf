/**
 * What a member must know before it can read its replica: who it is, where it listens, whom to call.
 * One JSON file, written whole (write, fsync, rename, fsync directory). Its presence says that this
 * node is in a swarm; a swarm directory without it is the rest of an attempt that failed.
 */
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { SwarmError } from '../base/errors.ts'
import type { Member } from '../mesh/ports.ts'

/** Durable facts of this node's membership. */
export interface MembershipRecord {
  readonly version: 1
  readonly nodeId: string
  readonly clusterId: string
  /** `host:port` */
  readonly listenAddress: string
  /** `host:port` */
  readonly advertiseAddress: string
  /** Base64 of the cluster root's public key. */
  readonly rootPublicKey: string
  /** Members as they were when last written: hints for the first dial after a restart. */
  readonly members: readonly Member[]
}

const FILE = 'membership.json'

/** The record in `directory`, or undefined when this node is in no swarm. @throws STORAGE_CORRUPT */
export async function readMembership(directory: string): Promise<MembershipRecord | undefined> {
  const path = join(directory, FILE)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw new SwarmError('INTERNAL', `membership file ${path}: cannot be read`, { cause: error })
  }
  try {
    const record = JSON.parse(text) as MembershipRecord | { readonly version: unknown }
    if (record.version === 1 && 'nodeId' in record) return record
    throw new Error(`version ${String(record.version)} is unknown`)
  } catch (error) {
    throw new SwarmError('STORAGE_CORRUPT', `membership file ${path}: damaged`, { cause: error })
  }
}

/** Writes the record durably. */
export async function writeMembership(directory: string, record: MembershipRecord): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, FILE)
  const temporary = `${path}.tmp`
  const file = await open(temporary, 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(record, undefined, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  await syncDirectory(directory)
}

/** Forgets the swarm: the record first, so that a crash half-way leaves a node in no swarm. */
export async function removeMembership(directory: string): Promise<void> {
  await rm(join(directory, FILE), { force: true })
  await syncDirectory(dirname(join(directory, FILE)))
  await rm(directory, { recursive: true, force: true })
}

async function syncDirectory(path: string): Promise<void> {
  let directory
  try {
    directory = await open(path, 'r')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return
    throw error
  }
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

function hasErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
