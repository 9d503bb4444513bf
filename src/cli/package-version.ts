/** Version of this checkout, from its package file. */
import { readFileSync } from 'node:fs'

/** `0.1.0` */
export function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  const description: unknown = JSON.parse(text)
  if (typeof description !== 'object' || description === null) return 'unknown'
  return 'version' in description ? String(description.version) : 'unknown'
}
