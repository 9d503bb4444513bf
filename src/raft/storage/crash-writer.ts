/**
 * The victim of the crash test: appends to the log at `process.argv[2]` for ever, in batches of
 * changing size with overlaps, and prints the last index of each acknowledged write.
 */
import { argv, stdout } from 'node:process'
import type { Entry } from '../core/entry.ts'
import { LevelLogStore } from './level-log-store.ts'

const [, , location = ''] = argv
const store = new LevelLogStore({ location })
let { lastIndex } = await store.open()
const start = lastIndex
for (let count = 1; lastIndex < start + 100_000; count += 1) {
  const entries: Entry[] = Array.from({ length: 1 + (count % 6) }, (_, offset) => {
    const index = lastIndex + 1 + offset
    const data = new Uint8Array(300).fill(index % 256)
    return { index, term: 1, type: 'normal', data }
  })
  lastIndex += entries.length
  await store.append({ entries, hardState: { term: 1, vote: 1, commit: lastIndex } })
  stdout.write(`${lastIndex}\n`)
}
