/**
 * What this node changed of its host, in one JSON file of the data directory: written whole and
 * synced before anything is changed, removed when everything is back. A damaged file says that
 * something was changed, but not what: it is an error until somebody looks at it.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { SwarmError } from '../base/errors.ts'
import { isRecord } from '../identity/fields.ts'
import { readPrivateFile, writePrivateFile } from '../identity/key-file.ts'
import type { ChangedSetting, HostRecord, HostRecordStore } from '../network/host-settings.ts'

/** Its name in the data directory. */
const FILE = 'host.json'
const VERSION = 1

/** The record of a data directory, which must be there when it is written. */
export function hostRecordFile(dataDirectory: string): HostRecordStore {
  const path = join(dataDirectory, FILE)
  return {
    async read() {
      const bytes = await readPrivateFile(path)
      if (bytes === undefined) return undefined
      try {
        return decode(JSON.parse(new TextDecoder().decode(bytes)))
      } catch (cause) {
        const hint = 'compare the settings that it names with /etc/sysctl.conf, then delete it'
        throw new SwarmError('STORAGE_CORRUPT', `file ${path}: damaged; ${hint}`, { cause })
      }
    },
    write: (record) => {
      const text = `${JSON.stringify({ version: VERSION, ...record }, undefined, 2)}\n`
      return writePrivateFile(path, new TextEncoder().encode(text))
    },
    remove: () => rm(path, { force: true }),
  }
}

function decode(value: unknown): HostRecord {
  if (!isRecord(value) || value['version'] !== VERSION) throw new Error('unknown version')
  const { changed } = value
  if (!Array.isArray(changed)) throw new Error('changed is no list')
  return {
    nodeId: textOf(value, 'nodeId'),
    kernel: textOf(value, 'kernel'),
    changed: changed.map((one): ChangedSetting => {
      if (!isRecord(one)) throw new Error('a setting is no object')
      return { name: textOf(one, 'name'), was: textOf(one, 'was'), made: textOf(one, 'made') }
    }),
  }
}

function textOf(value: Readonly<Record<string, unknown>>, name: string): string {
  const found = value[name]
  if (typeof found !== 'string') throw new Error(`${name} is no text`)
  return found
}
