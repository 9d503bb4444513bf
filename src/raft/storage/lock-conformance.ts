/** That a log on disk belongs to one process: part of the suite of `LogStore` for those on disk. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import process from 'node:process'
import type { ExecutionContext, TestFn } from 'ava'
import { isSwarmError } from '../../base/errors.ts'
import { entriesFrom } from './conformance.ts'
import type { LogStore } from './ports.ts'

const writer = new URL('crash-writer.ts', import.meta.url).pathname

/** The code of opening; closes what was opened. */
async function openingCode(store: LogStore): Promise<string> {
  try {
    await store.open()
    return 'opened'
  } catch (error) {
    if (isSwarmError(error)) return error.code
    throw error
  } finally {
    await store.close()
  }
}

/** That a log on disk belongs to one process; `store` and `kind` (of `crash-writer.ts`) agree. */
export function logLockConformance(
  test: TestFn,
  kind: 'level' | 'file',
  parts: {
    readonly location: (t: ExecutionContext) => Promise<string>
    readonly store: (location: string) => LogStore
  },
): void {
  test(`${kind}: a log that is open is refused to others until it is closed`, async (t) => {
    const location = await parts.location(t)
    const first = parts.store(location)
    await first.open()
    t.is(await openingCode(parts.store(location)), 'FAILED_PRECONDITION')
    await first.append({ entries: entriesFrom(1, 3, 1) })
    const stranger = spawn(process.execPath, [writer, location, 'look', kind], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.is(String((await once(stranger.stdout, 'data'))[0]).trim(), 'FAILED_PRECONDITION')
    await first.close()
    t.is(await openingCode(parts.store(location)), 'opened')
  })

  test(`${kind}: a log of another process is refused until that is killed`, async (t) => {
    const location = await parts.location(t)
    const child = spawn(process.execPath, [writer, location, 'write', kind], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    await once(child.stdout, 'data')
    child.stdout.resume()
    t.is(await openingCode(parts.store(location)), 'FAILED_PRECONDITION')
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    t.is(await openingCode(parts.store(location)), 'opened')
  })
}
