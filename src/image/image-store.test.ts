/** What the store keeps: names, references, removal, restarts, crashes, full disks. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import {
  collected,
  dockerArchive,
  stream,
  tarOf,
  temporaryDirectory,
} from './testing/image-fixtures.ts'
import { baseLayer, appLayer, open, load, refusal, contents } from './testing/store-steps.ts'

const isRoot = process.geteuid?.() === 0
if (!isRoot) process.stderr.write('SKIPPED: the full-disk test needs root (mount)\n')

test('a reference may be a name, a digest, an id or a unique prefix of one', async (t) => {
  await using directory = await temporaryDirectory()
  await using store = await open(directory.path)
  await load(store, dockerArchive(['web:latest'], [appLayer]))
  const image = await store.find('web')
  const id = image?.id ?? ''
  const digest = image?.digest ?? ''
  const references = ['docker.io/library/web', `web@${digest}`, `other:9@${digest}`, digest, id]
  for (const reference of [...references, id.slice(7), id.slice(7, 19), id.slice(0, 20)]) {
    t.is((await store.find(reference))?.id, id, reference)
  }
  t.is(await store.find('web:2'), undefined)
  t.is((await refusal(store.ensure('Web'))).code, 'INVALID_ARGUMENT')
  t.is((await refusal(store.ensure('nothing'))).code, 'NOT_FOUND')
})

test('removing takes names first, the image with its last one, and then content', async (t) => {
  await using directory = await temporaryDirectory()
  await using store = await open(directory.path)
  await load(store, dockerArchive(['other:1'], [baseLayer]))
  const before = contents(directory.path)
  await load(store, dockerArchive(['web:1', 'web:2'], [baseLayer, appLayer]))
  const id = (await store.find('web:1'))?.id ?? ''
  t.regex((await refusal(store.remove(id))).message, /must be forced/)
  t.deepEqual(await store.remove('web:1'), { untagged: ['web:1'], deleted: [] })
  const inUse = new Set(['web:2'])
  t.is((await refusal(store.remove('web:2', { inUse }))).code, 'FAILED_PRECONDITION')
  t.regex((await refusal(store.remove(id, { inUse, force: true }))).message, /cannot be forced/)
  t.deepEqual(await store.remove('web:2'), { untagged: ['web:2'], deleted: [id] })
  t.deepEqual(contents(directory.path), before)
  t.is((await refusal(store.remove('web:2'))).code, 'NOT_FOUND')
  t.is((await refusal(store.ensure('web:2'))).code, 'NOT_FOUND')
  t.truthy(await store.ensure('other:1'))
})

test('a name that running tasks use can be taken away by force, the content stays', async (t) => {
  await using directory = await temporaryDirectory()
  await using store = await open(directory.path)
  await load(store, dockerArchive(['web:1'], [appLayer]))
  const { id = '', digest = '' } = (await store.find('web:1')) ?? {}
  const removed = await store.remove('web:1', { force: true, inUse: new Set([digest]) })
  t.deepEqual(removed, { untagged: ['web:1'], deleted: [] })
  t.truthy(await store.ensure(id))
})

test('everything is there again after a restart; what a crash left is deleted', async (t) => {
  await using directory = await temporaryDirectory()
  const { path } = directory
  {
    await using store = await open(path)
    await load(store, dockerArchive(['web:1'], [appLayer]))
  }
  const before = contents(path)
  const hex = 'ab'.repeat(32)
  mkdirSync(`${path}/layers/new-0123/diff`, { recursive: true })
  mkdirSync(`${path}/layers/${hex}/diff`, { recursive: true })
  writeFileSync(`${path}/ingest/0123`, 'half')
  writeFileSync(`${path}/blobs/sha256/${hex}`, 'unreferenced')
  await using store = await open(path)
  t.deepEqual(contents(path), before)
  t.is((await store.ensure('web:1')).layerDirectories.length, 1)
})

test('a process that is killed while it loads leaves nothing visible', async (t) => {
  await using directory = await temporaryDirectory()
  const { path } = directory
  const large = tarOf([{ path: 'large', content: Buffer.alloc(8 << 20, 1) }, { path: 'z' }])
  writeFileSync(`${path}/image.tar`, dockerArchive(['web:1'], [large]))
  const program = fileURLToPath(new URL('testing/load-and-die.ts', import.meta.url))
  const child = spawnSync(process.execPath, [program, `${path}/store`, `${path}/image.tar`])
  t.is(child.signal, 'SIGKILL', child.stderr.toString())
  t.true(contents(`${path}/store`).some((name) => name.startsWith('layers/new-')))
  await using store = await open(`${path}/store`)
  t.deepEqual(contents(`${path}/store`), [])
  t.deepEqual(await store.list(), [])
  t.deepEqual(await load(store, readFileSync(`${path}/image.tar`)), ['Loaded image: web:1'])
})

const withTmpfs = isRoot ? test : test.skip
withTmpfs(
  'a full disk is STORAGE_FULL, leaves nothing behind, and room is used again',
  async (t) => {
    await using directory = await temporaryDirectory()
    const path = `${directory.path}/disk`
    mkdirSync(path)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'skein-image-test', path])
    using unmounting = new DisposableStack()
    unmounting.defer(() => void execFileSync('umount', ['-l', path]))
    await using store = await open(path)
    const small = tarOf([{ path: 'f', content: 'small' }])
    await load(store, dockerArchive(['small:1'], [small]))
    const before = contents(path)
    const tooLarge = tarOf([{ path: 'f', content: Buffer.alloc(8 << 20, 1) }])
    t.is((await refusal(load(store, dockerArchive(['web:1'], [tooLarge])))).code, 'STORAGE_FULL')
    t.deepEqual(contents(path), before)
    // The blob fits, the unpacked layer beside it does not: the child meets the full disk.
    const inChild = tarOf([{ path: 'f', content: Buffer.alloc(4 << 20, 1) }])
    t.is((await refusal(load(store, dockerArchive(['web:1'], [inChild])))).code, 'STORAGE_FULL')
    t.deepEqual(contents(path), before)
    const fits = tarOf([{ path: 'f', content: Buffer.alloc(1 << 20, 1) }])
    t.deepEqual(await load(store, dockerArchive(['web:1'], [fits])), ['Loaded image: web:1'])
  },
)

test('an index of names that is damaged stops the start with a clear error', async (t) => {
  await using directory = await temporaryDirectory()
  writeFileSync(`${directory.path}/images.json`, '{"version":1')
  t.is((await refusal(open(directory.path))).code, 'STORAGE_CORRUPT')
})

test('withdrawing a load leaves nothing', async (t) => {
  await using directory = await temporaryDirectory()
  await using store = await open(directory.path)
  const controller = new AbortController()
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield* stream(dockerArchive(['web:1'], [appLayer]), 1024)
    controller.abort()
    yield new Uint8Array(1024)
  }
  const work = collected(store.load(slow(), { signal: controller.signal }))
  t.is((await refusal(work)).code, 'ABORTED')
  t.deepEqual(contents(directory.path), [])
})

const withOverlay = isRoot ? test : test.skip
withOverlay('the kernel stacks the layers and hides what a whiteout names', async (t) => {
  await using directory = await temporaryDirectory()
  const { path } = directory
  await using store = await open(`${path}/store`)
  const opaque = tarOf([{ path: 'd/.wh..wh..opq' }, { path: 'd/new', content: 'x' }])
  const lower = tarOf([{ path: 'd/old', content: 'x' }])
  await load(store, dockerArchive(['web:1'], [baseLayer, lower, appLayer, opaque, appLayer]))
  const { layerDirectories } = await store.ensure('web:1')
  t.is(layerDirectories.length, 4)
  for (const name of ['up', 'work', 'root']) mkdirSync(`${path}/${name}`)
  const lowers = layerDirectories.toReversed().join(':')
  const options = `lowerdir=${lowers},upperdir=${path}/up,workdir=${path}/work`
  const mount = `mount -t overlay overlay -o ${options} ${path}/root`
  const script = `${mount} && cd ${path}/root && find . | sort`
  const seen = execFileSync('unshare', ['-m', 'sh', '-c', script]).toString().trim().split('\n')
  t.deepEqual(seen, ['.', './app', './d', './d/new', './etc', './etc/name'])
})
