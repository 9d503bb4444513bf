/**
 * What stands in `<data>/swarm`, and how it goes:
 *
 *   node.key         the node's identity             data.key    the cluster's, on managers
 *   membership.json  this node is in a swarm         raft, snapshots  its replica
 *
 * A node id is never used with two Raft logs: a log that was acknowledged must not vanish under the
 * same name. So whoever leaves loses its key, before its log. But a node whose attempt to join
 * ended before it had a log keeps its key: it may have been admitted without hearing of it, and is
 * known by its key when it asks again with a token that admits only one node.
 */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MEMBERSHIP_FILE } from './membership-file.ts'

/** File of the node's key. */
export const NODE_KEY_FILE = 'node.key'
/** Directory of the Raft log. */
export const RAFT_DIRECTORY = 'raft'
/** Directory of the snapshots. */
export const SNAPSHOTS_DIRECTORY = 'snapshots'

/** Removes what an attempt to found or join a swarm left, but the key of a node without a log. */
export async function clearAttempt(directory: string): Promise<void> {
  const names = await namesIn(directory)
  if (names.includes(RAFT_DIRECTORY) || names.includes(SNAPSHOTS_DIRECTORY)) {
    await removeSwarmDirectory(directory)
    return
  }
  for (const name of names) {
    if (name !== NODE_KEY_FILE) await rm(join(directory, name), { recursive: true, force: true })
  }
}

/** Forgets the swarm: the membership first, so that a crash half-way leaves a node in no swarm. */
export async function removeSwarmDirectory(directory: string): Promise<void> {
  await rm(join(directory, MEMBERSHIP_FILE), { force: true })
  await rm(join(directory, NODE_KEY_FILE), { force: true })
  await rm(directory, { recursive: true, force: true })
}

async function namesIn(directory: string): Promise<readonly string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw error
  }
}
