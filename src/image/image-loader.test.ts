/** What archives become images, and which are refused. */
import { execFileSync, spawnSync } from 'node:child_process'
import { createReadStream, existsSync, readFileSync } from 'node:fs'
import { gzipSync, zstdCompressSync } from 'node:zlib'
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import { silentLogger } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { sha256 } from './digest.ts'
import { makeDemoImage } from '../../scripts/make-image.ts'
import { ImageStore } from './image-store.ts'
import { MEDIA_TYPES } from './oci-document.ts'
import {
  Layout,
  collected,
  dockerArchive,
  json,
  tarOf,
  temporaryDirectory,
} from './testing/image-fixtures.ts'
import { baseLayer, appLayer, open, load, refusal, contents } from './testing/store-steps.ts'

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
