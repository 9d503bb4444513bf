/** Images that come from other nodes: who has them, what lies, what breaks off. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import test from 'ava'
import { systemClock } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError } from '../base/errors.ts'
import { silentLogger } from '../base/log.ts'
import { systemRandom } from '../base/random.ts'
import { digestHex, sha256 } from './digest.ts'
import { ImageStore } from './image-store.ts'
import { collected, dockerArchive, tarOf, temporaryDirectory } from './testing/image-fixtures.ts'
import { PeerNetwork } from './testing/peer-network.ts'
import { baseLayer, appLayer, open, load, refusal } from './testing/store-steps.ts'

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

/** So much sooner a silent peer is given up; one that is busy must not seem silent. */
const FASTER = 20

test('a peer that stalls is left for another', async (t) => {
  await using world = await cluster()
  const tar = dockerArchive(['web:1'], [bigLayer])
  await load(await world.store('a'), tar)
  await load(await world.store('b'), tar)
  const fast: Clock = {
    ...systemClock,
    after: (delayMs, callback) => systemClock.after(delayMs / FASTER, callback),
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
