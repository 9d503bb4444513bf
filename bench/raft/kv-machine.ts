/**
 * The replicated map that the benchmark's servers hold. Values are kept as strings of one character
 * a byte: a view of a command would keep the frame alive that brought it, which is up to 250 times
 * as large, and a buffer for each would take three times the value's own bytes.
 */
import type { CommittedEntry, StateMachine } from '../../src/raft/index.ts'
import { frame, frameParser, parsePut, putCommand } from './kv-protocol.ts'

/** Bytes of one piece of a snapshot. */
const CHUNK_BYTES = 256 * 1024

/** Keys to values; a command's response is nothing. */
export class KvMachine implements StateMachine<undefined> {
  #values = new Map<string, string>()

  get(key: string): Uint8Array | undefined {
    const value = this.#values.get(key)
    return value === undefined ? undefined : Buffer.from(value, 'latin1')
  }

  apply(entries: readonly CommittedEntry[]): readonly undefined[] {
    for (const { data } of entries) this.#values.set(...parsePut(data))
    return Array.from<undefined>({ length: entries.length })
  }

  async *snapshot(): AsyncGenerator<Uint8Array> {
    const view = [...this.#values]
    let parts: Buffer[] = []
    let size = 0
    for (const [key, value] of view) {
      const command = putCommand(Buffer.from(key, 'latin1'), Buffer.from(value, 'latin1'))
      const part = frame(0, 0, command)
      parts.push(part)
      size += part.length
      if (size < CHUNK_BYTES) continue
      yield Buffer.concat(parts)
      parts = []
      size = 0
    }
    yield await Promise.resolve(Buffer.concat(parts))
  }

  async restore(source: AsyncIterable<Uint8Array>): Promise<void> {
    const values = new Map<string, string>()
    const parse = frameParser((_id, _code, content) => {
      values.set(...parsePut(content))
    })
    for await (const chunk of source) parse(Buffer.from(chunk))
    this.#values = values
  }
}
