/**
 * What a member must know before it can read its replica: who it is, where it listens, whom to call.
 * One JSON file, written whole (write, fsync, rename, fsync directory). Its presence says that this
 * node is in a swarm; a swarm directory without it is the rest of an attempt that failed.
 */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SwarmError } from '../base/errors.ts'
import { readPrivateFile, writePrivateFile } from '../identity/key-file.ts'
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
  const bytes = await readPrivateFile(path)
  if (bytes === undefined) return undefined
  try {
    const record = JSON.parse(new TextDecoder().decode(bytes)) as
      | MembershipRecord
      | { readonly version: unknown }
    if (record.version === 1 && 'nodeId' in record) return record
    throw new Error(`version ${String(record.version)} is unknown`)
  } catch (error) {
    throw new SwarmError('STORAGE_CORRUPT', `membership file ${path}: damaged`, { cause: error })
  }
}

/** Writes the record durably. @throws STORAGE_FULL, INTERNAL */
export async function writeMembership(directory: string, record: MembershipRecord): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const text = `${JSON.stringify(record, undefined, 2)}\n`
  await writePrivateFile(join(directory, FILE), new TextEncoder().encode(text))
}

/** Forgets the swarm: the record first, so that a crash half-way leaves a node in no swarm. */
export async function removeMembership(directory: string): Promise<void> {
  await rm(join(directory, FILE), { force: true })
  await rm(directory, { recursive: true, force: true })
}
