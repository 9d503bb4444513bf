/**
 * Makes a mistake on purpose: replaces a piece of the production source while it is loaded, in
 * this thread and before anything of it is imported. Nothing in production knows of it.
 */
import { registerHooks } from 'node:module'
import { AssertionError } from '../../base/assert.ts'
import type { Mutant, Patch } from './mutant.ts'

const ROOT = new URL('../', import.meta.url)

/** From now on modules of `src/raft` are loaded with the mistake in them. */
export function plant({ patches }: Mutant): void {
  const byUrl = new Map<string, Patch[]>()
  for (const patch of patches) {
    const url = new URL(patch.file, ROOT).href
    byUrl.set(url, [...(byUrl.get(url) ?? []), patch])
  }
  registerHooks({
    load(url, context, nextLoad) {
      const loaded = nextLoad(url, context)
      const wanted = byUrl.get(url)
      if (wanted === undefined || loaded.source === undefined) {
        return loaded
      }
      const text =
        typeof loaded.source === 'string' ? loaded.source : new TextDecoder().decode(loaded.source)
      return { ...loaded, source: wanted.reduce(applyPatch, text) }
    },
  })
}

/** `source` with the mistake. @throws AssertionError when its place is not there exactly once */
export function applyPatch(source: string, { file, find, replace }: Patch): string {
  const parts = source.split(find)
  if (parts.length !== 2) {
    throw new AssertionError(`${file} has ${parts.length - 1} places like: ${find}`)
  }
  return parts.join(replace)
}
