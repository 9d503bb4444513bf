/**
 * What a member must know before it can read its replica: who it is, where it listens, whom to
 * call. One JSON file, written whole (write, fsync, rename, fsync directory). Its presence says
 * that this node is in a swarm; a swarm directory without it is the rest of an attempt that failed.
 */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { SwarmError } from '../base/errors.ts'
import { isRecord } from '../identity/fields.ts'
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

/** Its name in the swarm's directory. */
export const MEMBERSHIP_FILE = 'membership.json'

/**
 * The record in `directory`, or undefined when this node is in no swarm. @throws STORAGE_CORRUPT
 */
export async function readMembership(directory: string): Promise<MembershipRecord | undefined> {
  const path = join(directory, MEMBERSHIP_FILE)
  const bytes = await readPrivateFile(path)
  if (bytes === undefined) return undefined
  try {
    return decodeMembership(JSON.parse(new TextDecoder().decode(bytes)))
  } catch (error) {
    throw new SwarmError('STORAGE_CORRUPT', `membership file ${path}: damaged`, { cause: error })
  }
}

/** Writes the record durably. @throws STORAGE_FULL, INTERNAL */
export async function writeMembership(directory: string, record: MembershipRecord): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const text = `${JSON.stringify(record, undefined, 2)}\n`
  await writePrivateFile(join(directory, MEMBERSHIP_FILE), new TextEncoder().encode(text))
}

/** @throws Error naming the member that is not as this version writes it */
function decodeMembership(value: unknown): MembershipRecord {
  if (!isRecord(value)) throw new Error('not an object')
  if (value['version'] !== 1) throw new Error(`version ${String(value['version'])} is unknown`)
  const members: unknown = value['members']
  if (!Array.isArray(members)) throw new Error('members is no list')
  return {
    version: 1,
    nodeId: textOf(value, 'nodeId'),
    clusterId: textOf(value, 'clusterId'),
    listenAddress: textOf(value, 'listenAddress'),
    advertiseAddress: textOf(value, 'advertiseAddress'),
    rootPublicKey: textOf(value, 'rootPublicKey'),
    members: members.map(decodeMember),
  }
}

function decodeMember(value: unknown): Member {
  if (!isRecord(value)) throw new Error('a member is no object')
  const addresses: unknown = value['addresses']
  if (!Array.isArray(addresses) || !addresses.every((one) => typeof one === 'string')) {
    throw new Error('addresses of a member are no list of texts')
  }
  return { nodeId: textOf(value, 'nodeId'), peerId: textOf(value, 'peerId'), addresses }
}

function textOf(value: Readonly<Record<string, unknown>>, name: string): string {
  const found = value[name]
  if (typeof found !== 'string' || found === '') throw new Error(`${name} is missing`)
  return found
}
