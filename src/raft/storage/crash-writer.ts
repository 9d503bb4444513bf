/**
 * The victim of the crash tests: appends to the log at `process.argv[2]` for ever, in batches of
 * changing size, and prints the last index of each acknowledged write; a refused write ends it,
 * with the code of the refusal as its last line. The second argument `look` only prints what the
 * log holds; the third, `file`, takes the log on files.
 */
import { argv, stdout } from 'node:process'
import { isSwarmError } from '../../base/errors.ts'
import { systemRandom } from '../../base/random.ts'
import type { Entry } from '../core/entry.ts'
import { FileLogStore } from './file-log-store.ts'
import { LevelLogStore } from './level-log-store.ts'

const FILE_SEGMENT_BYTES = 64 * 1024

const [, , location = '', mode = 'write', kind = 'level'] = argv
const store =
  kind === 'file'
    ? new FileLogStore({ location, random: systemRandom, segmentBytes: FILE_SEGMENT_BYTES })
    : new LevelLogStore({ location })
const print = (line: number | string): boolean => stdout.write(`${line}\n`)

async function appendForever(from: number): Promise<never> {
  let last = from
  for (let count = 1; ; count += 1) {
    const entries: Entry[] = Array.from({ length: 1 + (count % 6) }, (_, offset) => {
      const index = last + 1 + offset
      const data = new Uint8Array(300).fill(index % 256)
      return { index, term: 1, type: 'normal', data }
    })
    last += entries.length
    await store.append({ entries, hardState: { term: 1, vote: 1, commit: last } })
    print(last)
  }
}

try {
  const { lastIndex } = await store.open()
  if (mode === 'write') await appendForever(lastIndex)
  else print(lastIndex)
} catch (error) {
  if (!isSwarmError(error)) throw error
  print(error.code)
}
await store.close()
