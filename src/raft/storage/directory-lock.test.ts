import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { systemRandom } from '../../base/random.ts'
import { FileLogStore } from './file-log-store.ts'
import { LevelLogStore } from './level-log-store.ts'
import { logLockConformance } from './lock-conformance.ts'

const SEGMENT_BYTES = 64 * 1024

async function location(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'skein-raft-lock-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  return directory
}

logLockConformance(test, 'level', {
  location,
  store: (place) => new LevelLogStore({ location: place }),
})
logLockConformance(test, 'file', {
  location,
  store: (place) =>
    new FileLogStore({ location: place, random: systemRandom, segmentBytes: SEGMENT_BYTES }),
})
