/** Small words for tests of the image store. */
import { readdirSync } from 'node:fs'
import { systemClock } from '../../base/clock.ts'
import { isSwarmError } from '../../base/errors.ts'
import { silentLogger } from '../../base/log.ts'
import { systemRandom } from '../../base/random.ts'
import { ImageStore } from '../image-store.ts'
import type { ImagePeers } from '../ports.ts'
import { collected, stream, tarOf } from './image-fixtures.ts'

/** Files of a first layer. */
export const baseLayer = tarOf([
  { path: 'etc/name', content: 'base' },
  { path: 'etc/gone', content: 'gone' },
])
/** Hides a file of the first layer and adds one. */
export const appLayer = tarOf([
  { path: 'etc/.wh.gone' },
  { path: 'app', content: 'app', mode: 0o755 },
])

/** A store in this directory. */
export function open(directory: string, peers?: ImagePeers): Promise<ImageStore> {
  const components = { clock: systemClock, log: silentLogger, random: systemRandom }
  return ImageStore.open({ ...components, ...(peers !== undefined && { peers }) }, { directory })
}

/** Loads an archive; the lines that the user sees. */
export async function load(store: ImageStore, tar: Uint8Array): Promise<string[]> {
  return await collected(store.load(stream(tar)))
}

/** Code and text of the error that the work ends with. */
export async function refusal(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await work
  } catch (error) {
    if (isSwarmError(error)) return { code: error.code, message: error.message }
    throw error
  }
  return { code: 'none', message: 'no error' }
}

/** Everything durable below a store's directory. */
export function contents(directory: string): string[] {
  const files = (path: string): string[] =>
    readdirSync(`${directory}/${path}`).map((name) => `${path}/${name}`)
  return [...files('blobs/sha256'), ...files('layers'), ...files('ingest')].toSorted()
}
