/**
 * Small JSON files replaced atomically (write beside, rename over). No fsync: everything kept this
 * way can be derived again from the replicated store, and flash wears out. A file torn by power
 * loss reads as absent.
 */
import { readFile, rename, writeFile } from 'node:fs/promises'

/** Replaces `path` with `value`. Two writers of one file must be ordered by the caller. */
export async function writeJsonFile(path: string, value: unknown): Promise<void> {
  const beside = `${path}.tmp`
  await writeFile(beside, JSON.stringify(value), { mode: 0o600 })
  await rename(beside, path)
}

/** The parsed content, or undefined when the file is absent or torn. */
export async function readJsonFile(path: string): Promise<unknown> {
  const text = await readTextFile(path)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as unknown
  } catch (cause) {
    if (cause instanceof SyntaxError) return undefined
    throw cause
  }
}

/** The content of a text file, or undefined when it does not exist. */
export async function readTextFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ESRCH')) return undefined
    throw error
  }
}

/** Whether `error` is a system error with one of these names (`ENOENT` …). */
export function hasErrno(error: unknown, ...names: readonly string[]): boolean {
  if (!(error instanceof Error) || !('code' in error)) return false
  return typeof error.code === 'string' && names.includes(error.code)
}
