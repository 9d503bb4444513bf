import { execFileSync, spawnSync } from 'node:child_process'
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, isSwarmError } from '../base/errors.ts'
import { silentLogger } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { digestHex, sha256 } from './digest.ts'
import { makeDemoImage } from '../../scripts/make-image.ts'
import { ImageStore } from './image-store.ts'
import { MEDIA_TYPES } from './oci-document.ts'
import type { ImagePeers } from './ports.ts'
import {
  Layout,
  collected,
  dockerArchive,
  json,
  stream,
  tarOf,
  temporaryDirectory,
} from './testing/image-fixtures.ts'
import { PeerNetwork } from './testing/peer-network.ts'

const isRoot = process.geteuid?.() === 0
if (!isRoot) process.stderr.write('SKIPPED: the full-disk test needs root (mount)\n')

const baseLayer = tarOf([
  { path: 'etc/name', content: 'base' },
  { path: 'etc/gone', content: 'gone' },
])
const appLayer = tarOf([{ path: 'etc/.wh.gone' }, { path: 'app', content: 'app', mode: 0o755 }])

function open(directory: string, peers?: ImagePeers): Promise<ImageStore> {
  const components = { clock: systemClock, log: silentLogger, random: systemRandom }
  return ImageStore.open({ ...components, ...(peers !== undefined && { peers }) }, { directory })
}

async function load(store: ImageStore, tar: Uint8Array): Promise<string[]> {
  return await collected(store.load(stream(tar)))
}

async function refusal(work: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await work
  } catch (error) {
    if (isSwarmError(error)) return { code: error.code, message: error.message }
    throw error
  }
  return { code: 'none', message: 'no error' }
}

/** Everything durable below a store's directory. */
function contents(directory: string): string[] {
  const files = (path: string): string[] =>
    readdirSync(`${directory}/${path}`).map((name) => `${path}/${name}`)
  return [...files('blobs/sha256'), ...files('layers'), ...files('ingest')].toSorted()
}

test('a docker-archive becomes an image with unpacked layers', async (t) => {
  await using directory = await temporaryDirectory()
  await using store = await open(directory.path)
  const tar = dockerArchive(['web:1', 'shop/web:2'], [baseLayer, appLayer], {
    config: {
      Cmd: ['run'],
      Entrypoint: ['/app'],
      Env: ['A=b'],
      User: '7:8',
      WorkingDir: '/srv',
      StopSignal: 'SIGINT',
      Labels: { a: 'b' },
      Volumes: { '/data': {} },
      ExposedPorts: { '80/tcp': {} },
      Healthcheck: { Test: ['CMD', 'well'], Interval: 5_000_000_000, Retries: 2 },
      Shell: ['/bin/ash', '-c'],
    },
  })
  t.deepEqual(await load(store, tar), ['Loaded image: web:1', 'Loaded image: shop/web:2'])
  const ready = await store.ensure('web:1')
  t.deepEqual(ready.config, {
    entrypoint: ['/app'],
    command: ['run'],
    env: ['A=b'],
    user: '7:8',
    workingDirectory: '/srv',
    stopSignal: 'SIGINT',
    labels: { a: 'b' },
    volumes: ['/data'],
    exposedPorts: ['80/tcp'],
    healthcheck: { Test: ['CMD', 'well'], Interval: 5_000_000_000, Retries: 2 },
    shell: ['/bin/ash', '-c'],
  })
  const [lower = '', upper = ''] = ready.layerDirectories
  t.is(readFileSync(`${lower}/etc/name`, 'utf8'), 'base')
  t.is(readFileSync(`${upper}/app`, 'utf8'), 'app')
  const [summary] = await store.list()
  t.deepEqual(summary?.tags, ['web:1', 'shop/web:2'])
  t.is(summary?.sizeBytes, 'base'.length + 'gone'.length + 'app'.length)
  t.is(summary?.createdAt, '2026-01-02T03:04:05Z')
  t.is(summary?.digest, ready.digest)
})

test('the same archive gives the same digest on every node', async (t) => {
  await using directory = await temporaryDirectory()
  await using a = await open(`${directory.path}/a`)
  await using b = await open(`${directory.path}/b`)
  const tar = dockerArchive(['web:1'], [gzipSync(appLayer)], { diffIds: [sha256(appLayer)] })
  await load(a, tar)
  await load(b, gzipSync(tar))
  t.is((await a.find('web:1'))?.digest, (await b.find('web:1'))?.digest ?? '')
})

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

for (const [name, pack] of [
  ['plain', (tar: Buffer) => tar],
  ['gzip', (tar: Buffer) => gzipSync(tar)],
  ['zstd', (tar: Buffer) => zstdCompressSync(tar)],
] as const) {
  test(`an OCI layout with gzip and zstd layers loads from a ${name} tar`, async (t) => {
    await using directory = await temporaryDirectory()
    await using store = await open(directory.path)
    const layout = new Layout()
    const image = layout.image([
      { blob: gzipSync(baseLayer), tar: baseLayer, type: MEDIA_TYPES.gzipLayer },
      { blob: zstdCompressSync(appLayer), tar: appLayer, type: MEDIA_TYPES.zstdLayer },
    ])
    const annotations = { 'io.containerd.image.name': 'docker.io/library/web:1' }
    const tar = pack(layout.tar([{ ...image, annotations }]))
    t.deepEqual(await load(store, tar), ['Loaded image: web:1'])
    const ready = await store.ensure('web:1')
    t.is(ready.digest, image.digest)
    t.is(ready.layerDirectories.length, 2)
  })
}

test('of a nested index the host takes its platform and keeps others for others', async (t) => {
  await using directory = await temporaryDirectory()
  const options = { directory: directory.path, platform: { os: 'linux', architecture: 'arm64' } }
  const components = { clock: systemClock, log: silentLogger, random: systemRandom }
  await using store = await ImageStore.open(components, options)
  const layout = new Layout()
  const [amd64, arm64, s390x] = ['amd64', 'aarch64', 's390x'].map((architecture) => {
    const tar = tarOf([{ path: architecture, content: architecture }])
    const platform = { os: 'linux', architecture }
    return {
      ...layout.image([{ blob: tar, tar, type: MEDIA_TYPES.layer }], { platform }),
      platform,
    }
  })
  const attestation = {
    ...layout.manifest({ schemaVersion: 2, config: {}, layers: [] }),
    platform: { os: 'unknown', architecture: 'unknown' },
  }
  layout.drop(s390x?.digest ?? sha256(json({})))
  const inner = layout.index([attestation, amd64, s390x, arm64].filter((one) => one !== undefined))
  const annotations = { 'org.opencontainers.image.ref.name': 'multi:1' }
  t.deepEqual(await load(store, layout.tar([{ ...layout.index([inner]), annotations }])), [
    'Loaded image: multi:1',
  ])
  const ready = await store.ensure('multi:1')
  t.is(ready.digest, arm64?.digest ?? '')
  t.true(existsSync(`${ready.layerDirectories[0] ?? ''}/aarch64`))
  const resolved = await store.resolve('multi:1')
  t.deepEqual(
    resolved?.platforms.map(({ architecture }) => architecture),
    ['amd64', 'arm64'],
  )
  t.not(resolved?.digest, ready.digest)
})

test('an archive without names loads by id; the name of an old image moves', async (t) => {
  await using directory = await temporaryDirectory()
  await using store = await open(directory.path)
  const [line = ''] = await load(store, dockerArchive(null, [appLayer]))
  t.regex(line, /^Loaded image ID: sha256:[0-9a-f]{64}$/)
  t.is((await store.list()).length, 1)
  await load(store, dockerArchive(['web:1'], [appLayer]))
  const old = await store.find('web:1')
  const lines = await load(store, dockerArchive(['web:1'], [baseLayer]))
  t.regex(lines[0] ?? '', /^The image web:1 already exists, renaming the old one with ID sha256:/)
  t.is(lines[1], 'Loaded image: web:1')
  t.deepEqual((await store.find(old?.id ?? ''))?.tags, [])
})

test('layers that links inside the archive name are found', async (t) => {
  await using directory = await temporaryDirectory()
  await using store = await open(directory.path)
  const config = json({
    os: 'linux',
    architecture: 'amd64',
    rootfs: { type: 'layers', diff_ids: [sha256(appLayer)] },
  })
  const tar = tarOf([
    { path: 'a/layer.tar', content: appLayer },
    { path: 'b/layer.tar', type: 'symlink', linkPath: '../a/layer.tar' },
    { path: 'c.json', content: config },
    {
      path: 'manifest.json',
      content: json([{ Config: 'c.json', RepoTags: ['web:1'], Layers: ['b/layer.tar'] }]),
    },
  ])
  t.deepEqual(await load(store, tar), ['Loaded image: web:1'])
})

function build(make: (layout: Layout) => readonly object[]): Buffer {
  const layout = new Layout()
  return layout.tar(make(layout))
}

/** Archives that must be refused, with the reason. */
function refusedArchives(): Record<string, readonly [Uint8Array, RegExp]> {
  const good = { blob: appLayer, tar: appLayer, type: MEDIA_TYPES.layer }
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'
  const lying = tarOf([{ path: 'other', content: 'x' }])
  const missing = (layout: Layout): object[] => {
    const image = layout.image([good])
    layout.drop(sha256(appLayer))
    return [image]
  }
  return {
    'is no tar': [Buffer.from('hello'.repeat(300)), /image archive: tar/],
    'is empty': [new Uint8Array(), /not a tar archive/],
    'is cut short': [dockerArchive(['web:1'], [appLayer]).subarray(0, 3000), /cut short/],
    'has no manifest': [tarOf([{ path: 'readme', content: 'x' }]), /neither index.json nor/],
    'is from before Docker 1.10': [
      tarOf([{ path: 'repositories', content: '{}' }]),
      /older than Docker/,
    ],
    'has a manifest that is not JSON': [
      tarOf([{ path: 'manifest.json', content: '[' }]),
      /not JSON/,
    ],
    'names no image': [tarOf([{ path: 'manifest.json', content: '[]' }]), /names no image/],
    'misses its config': [
      tarOf([{ path: 'manifest.json', content: json([{ Config: 'x', Layers: [] }]) }]),
      /"x" is missing/,
    ],
    'has a bad tag': [dockerArchive(['Web:1'], [appLayer]), /invalid reference/],
    'has a layer that is not its diff_id': [
      dockerArchive(['web:1'], [gzipSync(lying)], { diffIds: [sha256(appLayer)] }),
      /not its diff_id/,
    ],
    'has a layer that claims the diff_id of a layer that is here': [
      dockerArchive(['web:1'], [gzipSync(lying)], { diffIds: [sha256(baseLayer)] }),
      /not its diff_id/,
    ],
    'has too few layers': [
      dockerArchive(['web:1'], [appLayer], { diffIds: [sha256(appLayer), sha256(baseLayer)] }),
      /different numbers of layers/,
    ],
    'has a layer that is no tar': [dockerArchive(['web:1'], [Buffer.from('x')]), /cut short/],
    'has a hostile layer': [dockerArchive(['web:1'], [tarOf([{ path: '.wh.' }])]), /names no file/],
    'has schema 1': [build((layout) => [layout.manifest({ schemaVersion: 1 })]), /schema 1/],
    'has a foreign layer': [
      build((layout) => [layout.image([{ ...good, type: foreign }])]),
      /foreign/,
    ],
    'has an unknown layer type': [
      build((layout) => [layout.image([{ ...good, type: 'application/x' }])]),
      /media type/,
    ],
    'misses a layer': [build(missing), /missing or damaged/],
    'is an index and a manifest': [
      build((layout) => [layout.manifest({ schemaVersion: 2, manifests: [], layers: [] })]),
      /neither an index nor a manifest/,
    ],
    'lies about a size': [
      build((layout) => [{ ...layout.image([good]), size: 5 }]),
      /another size/,
    ],
    'names no blob': [
      build(() => [{ mediaType: MEDIA_TYPES.manifest, digest: sha256(appLayer), size: 1 }]),
      /missing or damaged/,
    ],
    'has a digest that is a path': [
      build(() => [
        { mediaType: MEDIA_TYPES.manifest, digest: 'sha256:../../../etc/passwd', size: 1 },
      ]),
      /sha256 digest/,
    ],
  }
}

for (const [name, [tar, reason]] of Object.entries(refusedArchives())) {
  test(`an archive that ${name} is refused and changes nothing`, async (t) => {
    await using directory = await temporaryDirectory()
    await using store = await open(directory.path)
    await load(store, dockerArchive(['old:1'], [baseLayer]))
    const before = contents(directory.path)
    const { code, message } = await refusal(load(store, tar))
    t.regex(message, reason)
    t.is(code, 'INVALID_ARGUMENT')
    t.deepEqual(contents(directory.path), before)
    t.is((await store.list()).length, 1)
  })
}

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

for (const from of ['busybox', 'node'] as const) {
  test(`the demo image made from ${from} loads and can be read by others`, async (t) => {
    await using directory = await temporaryDirectory()
    const { path } = directory
    const output = `${path}/demo.tar`
    const made = await makeDemoImage({ output, tag: 'web:1', from })
    await using store = await open(`${path}/store`)
    t.deepEqual(await collected(store.load(createReadStream(output))), ['Loaded image: web:1'])
    const ready = await store.ensure('web:1')
    t.is(ready.digest, made.digest)
    t.true(existsSync(`${ready.layerDirectories[0] ?? ''}/bin/serve`))
    if (spawnSync('skopeo', ['--version']).status !== 0) {
      t.log('SKIPPED: skopeo is not installed, so only our own reader has read it')
      return
    }
    for (const format of ['oci-archive', 'docker-archive']) {
      const reference = `${format}:${output}`
      const raw = execFileSync('skopeo', ['inspect', '--config', reference]).toString()
      t.regex(raw, /bin\/serve/, format)
    }
  })
}

// ---- Exchange between nodes ----

const bigLayer = tarOf([{ path: 'big', content: Buffer.from(systemRandom.bytes(400_000)) }])

interface Cluster extends AsyncDisposable {
  readonly network: PeerNetwork
  readonly path: string
  store(name: string): Promise<ImageStore>
}

async function cluster(): Promise<Cluster> {
  const directory = await temporaryDirectory()
  const network = new PeerNetwork()
  const stores: ImageStore[] = []
  return {
    network,
    path: directory.path,
    async store(name) {
      const store = await open(`${directory.path}/${name}`, network.node(name))
      stores.push(store)
      return store
    },
    async [Symbol.asyncDispose]() {
      for (const store of stores) await store.close()
      await directory[Symbol.asyncDispose]()
    },
  }
}

test('a node fetches an image from the node that has it, and serves it on', async (t) => {
  await using world = await cluster()
  const a = await world.store('a')
  const b = await world.store('b')
  await load(a, dockerArchive(['web:1'], [baseLayer, bigLayer]))
  t.is(await b.find('web:1'), undefined)
  const { digest = '', platforms = [] } = (await b.resolve('web:1')) ?? {}
  t.is(platforms.length, 1)
  const [first, second] = await Promise.all([
    b.ensure(`web:1@${digest}`),
    b.ensure(`web:1@${digest}`),
  ])
  t.is(first, second)
  t.is(world.network.downloads.length, 2)
  t.deepEqual((await b.find('web:1'))?.tags, ['web:1'])
  await a.close()
  world.network.disconnect('a')
  const c = await world.store('c')
  t.is((await c.ensure('web:1')).layerDirectories.length, 2)
})

test('an image that nobody has is NOT_FOUND; with silent nodes it is UNAVAILABLE', async (t) => {
  await using world = await cluster()
  await world.store('a')
  const b = await world.store('b')
  t.is((await refusal(b.ensure('web:1'))).code, 'NOT_FOUND')
  t.is((await refusal(b.ensure(`web@${sha256(baseLayer)}`))).code, 'NOT_FOUND')
  t.is(await b.resolve('web:1'), undefined)
  world.network.fail('a', new SwarmError('UNAVAILABLE', 'a is gone'))
  t.is((await refusal(b.ensure('web:1'))).code, 'UNAVAILABLE')
  t.is((await refusal(b.ensure(`web@${sha256(baseLayer)}`))).code, 'UNAVAILABLE')
})

test('a question that takes too long ends with the reason of its caller', async (t) => {
  await using world = await cluster()
  await world.store('a')
  const b = await world.store('b')
  world.network.hang('a')
  const limit = new AbortController()
  const work = refusal(b.resolve('web:1', { signal: limit.signal }))
  limit.abort(new SwarmError('TIMED_OUT', 'image web:1: no answer'))
  t.is((await work).code, 'TIMED_OUT')
})

test('a download goes on where a failed peer stopped', async (t) => {
  await using world = await cluster()
  const tar = dockerArchive(['web:1'], [bigLayer])
  for (const name of ['a', 'b', 'c']) await load(await world.store(name), tar)
  const target = await world.store('d')
  world.network.cutAfter('a', 150_000)
  world.network.cutAfter('b', 150_000)
  await target.ensure('web:1')
  const sent = world.network.downloads.map(({ bytes }) => bytes)
  t.is(
    sent.reduce((sum, bytes) => sum + bytes, 0),
    bigLayer.length,
  )
})

test('one node whose connection breaks again and again is enough', async (t) => {
  await using world = await cluster()
  await load(await world.store('a'), dockerArchive(['web:1'], [bigLayer]))
  const target = await world.store('b')
  world.network.cutAfter('a', 150_000)
  t.is((await target.ensure('web:1')).layerDirectories.length, 1)
  t.is(world.network.downloads.length, 3)
})

test('a peer that stalls is left for another', async (t) => {
  await using world = await cluster()
  const tar = dockerArchive(['web:1'], [bigLayer])
  await load(await world.store('a'), tar)
  await load(await world.store('b'), tar)
  const fast: Clock = {
    ...systemClock,
    after: (delayMs, callback) => systemClock.after(delayMs / 100, callback),
  }
  world.network.stall('a')
  const peers = world.network.node('c')
  const components = { clock: fast, log: silentLogger, random: systemRandom, peers }
  await using target = await ImageStore.open(components, { directory: `${world.path}/c` })
  const { digest = '' } = (await target.resolve('web:1')) ?? {}
  t.is((await target.ensure(`web@${digest}`)).layerDirectories.length, 1)
})

test('a corrupted blob is refused and another node is used', async (t) => {
  await using world = await cluster()
  const tar = dockerArchive(['web:1'], [bigLayer])
  for (const name of ['a', 'b']) await load(await world.store(name), tar)
  const target = await world.store('c')
  world.network.corrupt('a')
  const ready = await target.ensure('web:1')
  t.is(readFileSync(`${ready.layerDirectories[0] ?? ''}/big`).length, 400_000)
})

test('when a corrupted piece and a good one were joined, each peer is tried alone', async (t) => {
  await using world = await cluster()
  const tar = dockerArchive(['web:1'], [bigLayer])
  for (const name of ['a', 'b']) await load(await world.store(name), tar)
  const target = await world.store('c')
  world.network.corrupt('a')
  world.network.cutAfter('a', 150_000)
  t.is((await target.ensure('web:1')).layerDirectories.length, 1)
})

test('a damaged document hides no other image, heals from peers, can be removed', async (t) => {
  await using world = await cluster()
  const a = await world.store('a')
  await load(a, dockerArchive(['web:1'], [appLayer]))
  const { digest = '' } = (await a.find('web:1')) ?? {}
  const path = `${world.path}/b`
  {
    const b = await open(path)
    await load(b, dockerArchive(['web:1'], [appLayer]))
    await load(b, dockerArchive(['other:1'], [baseLayer]))
    await b.close()
  }
  writeFileSync(`${path}/blobs/sha256/${digest.slice(7)}`, 'rotten')
  {
    const alone = await open(path)
    t.deepEqual(
      (await alone.list()).map(({ tags }) => tags),
      [['other:1']],
    )
    t.is((await refusal(alone.ensure('web:1'))).code, 'NOT_FOUND')
    await alone.close()
  }
  const b = await world.store('b')
  t.is((await b.ensure('web:1')).digest, digest)
  t.is((await b.list()).length, 2)
  writeFileSync(`${path}/blobs/sha256/${digest.slice(7)}`, 'rotten')
  await b.close()
  await using again = await open(path)
  t.deepEqual(await again.remove('web:1'), { untagged: ['web:1'], deleted: [] })
  t.is((await again.list()).length, 1)
})

test('when every peer lies, nothing is stored', async (t) => {
  await using world = await cluster()
  await load(await world.store('a'), dockerArchive(['web:1'], [bigLayer]))
  const target = await world.store('b')
  world.network.corrupt('a')
  const { code } = await refusal(target.ensure('web:1'))
  t.is(code, 'UNAVAILABLE')
  t.deepEqual(await target.list(), [])
  t.false(existsSync(`${world.path}/b/blobs/sha256/${digestHex(sha256(bigLayer))}`))
})

test('a caller that withdraws leaves the work to the others', async (t) => {
  await using world = await cluster()
  await load(await world.store('a'), dockerArchive(['web:1'], [bigLayer]))
  const target = await world.store('b')
  const { digest = '' } = (await target.resolve('web:1')) ?? {}
  const controller = new AbortController()
  const first = refusal(target.ensure(`web@${digest}`, { signal: controller.signal }))
  const second = target.ensure(`web@${digest}`)
  controller.abort()
  t.is((await first).code, 'ABORTED')
  t.is((await second).layerDirectories.length, 1)
})

test('the latest load of a name wins everywhere, whoever is asked', async (t) => {
  await using world = await cluster()
  const a = await world.store('a')
  const b = await world.store('b')
  const c = await world.store('c')
  await load(a, dockerArchive(['web:1'], [baseLayer]))
  await c.ensure('web:1')
  await load(b, dockerArchive(['web:1'], [appLayer]))
  const latest = (await b.find('web:1'))?.digest
  for (const store of [a, b, c]) t.is((await store.resolve('web:1'))?.digest, latest)
  world.network.disconnect('a')
  world.network.disconnect('b')
  t.truthy(await c.resolve('web:1'))
})

test('a layer blob that has rotted on disk is fetched again', async (t) => {
  await using world = await cluster()
  const tar = dockerArchive(['web:1'], [gzipSync(bigLayer)], { diffIds: [sha256(bigLayer)] })
  await load(await world.store('a'), tar)
  const path = `${world.path}/b`
  {
    const b = await open(path)
    await load(b, tar)
    await b.close()
  }
  const [blob = ''] = execFileSync('sh', ['-c', `ls -S ${path}/blobs/sha256`])
    .toString()
    .split('\n')
  const bytes = readFileSync(`${path}/blobs/sha256/${blob}`)
  bytes[1000] = (bytes[1000] ?? 0) ^ 0xff
  writeFileSync(`${path}/blobs/sha256/${blob}`, bytes)
  execFileSync('sh', ['-c', `rm -rf ${path}/layers/*`])
  const b = await world.store('b')
  t.is((await b.ensure('web:1')).layerDirectories.length, 1)
})

test('closing ends a running fetch with SHUTTING_DOWN', async (t) => {
  await using world = await cluster()
  await load(await world.store('a'), dockerArchive(['web:1'], [bigLayer]))
  const b = await world.store('b')
  const { digest = '' } = (await b.resolve('web:1')) ?? {}
  world.network.stall('a')
  const work = refusal(b.ensure(`web@${digest}`))
  while (world.network.downloads.length === 0) await new Promise((done) => setImmediate(done))
  await b.close()
  t.is((await work).code, 'SHUTTING_DOWN')
  t.is((await refusal(b.ensure('web:1'))).code, 'SHUTTING_DOWN')
})

test('a peer that asks for a path, a negative offset or nonsense gets a refusal', async (t) => {
  await using world = await cluster()
  await load(await world.store('a'), dockerArchive(['web:1'], [appLayer]))
  const peers = world.network.node('evil')
  const { signal } = new AbortController()
  const bodies = [
    { digest: '../../etc/passwd', offset: 0 },
    { digest: sha256(appLayer), offset: -1 },
    null,
  ]
  for (const body of bodies) {
    const download = collected(peers.download('a', 'image.blob', body, { signal }))
    t.is((await refusal(download)).code, 'INVALID_ARGUMENT')
    t.is(
      (await refusal(peers.request('a', 'image.resolve', body, { signal }))).code,
      'INVALID_ARGUMENT',
    )
  }
})
