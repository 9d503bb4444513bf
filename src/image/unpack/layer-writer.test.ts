import { readFileSync, readdirSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import test from 'ava'
import * as fc from 'fast-check'
import { isSwarmError } from '../../base/errors.ts'
import { systemCode } from '../durable-file.ts'
import type { TarEntry, TarEntryType } from '../tar-header.ts'
import { temporaryDirectory } from '../testing/image-fixtures.ts'
import { LayerWriter } from './layer-writer.ts'
import type { UnpackOrder } from './protocol.ts'

const component = fc.constantFrom('a', 'b', 'c', '.', '..', '', '.wh.a', '.wh..wh..opq', '.wh...')
const path = fc
  .tuple(fc.constantFrom('', '/', '../'), fc.array(component, { minLength: 1, maxLength: 4 }))
  .map(([start, components]) => start + components.join('/'))
const type = fc.constantFrom<TarEntryType>('file', 'directory', 'symlink', 'symlink', 'hardlink')
const entry = fc.record({ type, path, linkPath: path }).map((parts): TarEntry => ({
  ...parts,
  sizeBytes: parts.type === 'file' ? 4 : 0,
  mode: 0o777,
  uid: 0,
  gid: 0,
  modifiedSeconds: 0,
  major: 0,
  minor: 0,
  xattrs: new Map(),
}))

/** Applies entries without any chroot: only the path logic stands between them and the host. */
function apply(order: UnpackOrder, entries: readonly TarEntry[]): void {
  const writer = new LayerWriter(order, order.directory)
  for (const one of entries) {
    try {
      writer.begin(one)
      if (one.type === 'file') writer.write(Buffer.from('evil'))
      writer.end()
    } catch (error) {
      if (!isSwarmError(error) && systemCode(error) === undefined) throw error
    }
  }
  writer.finish()
}

test('no sequence of entries leaves the layer, even without a chroot', async (t) => {
  await using directory = await temporaryDirectory()
  const outer = `${directory.path}/outer`
  const root = `${outer}/x/root`
  const limits = { maxEntries: 100, maxBytes: 1000, allowDevices: false }
  const order: UnpackOrder = { directory: root, mode: 'user', ...limits }
  const property = fc.asyncProperty(fc.array(entry, { maxLength: 12 }), async (entries) => {
    await rm(outer, { recursive: true, force: true })
    await mkdir(root, { recursive: true })
    for (const name of ['a', 'b', 'c']) await writeFile(`${outer}/x/${name}`, 'host')
    apply(order, entries)
    t.deepEqual(readdirSync(outer), ['x'])
    t.deepEqual(readdirSync(`${outer}/x`).toSorted(), ['a', 'b', 'c', 'root'])
    for (const name of ['a', 'b', 'c']) t.is(readFileSync(`${outer}/x/${name}`, 'utf8'), 'host')
  })
  await fc.assert(property, { numRuns: 400 })
})
