import { execFileSync, spawn } from 'node:child_process'
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { chown, readdir, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { constants, gzipSync, zstdCompressSync } from 'node:zlib'
import test from 'ava'
import koffi from 'koffi'
import { systemClock } from '../../base/clock.ts'
import { isSwarmError } from '../../base/errors.ts'
import type { Digest } from '../digest.ts'
import { sha256 } from '../digest.ts'
import { stream, tarOf, temporaryDirectory } from '../testing/image-fixtures.ts'
import type { Member } from '../testing/image-fixtures.ts'
import { DEFAULT_UNPACK_LIMITS, unpackLayer } from './layer-unpacker.ts'
import type { UnpackLimits } from './layer-unpacker.ts'
import type { UnpackOrder, UnpackReport, UnpackSummary } from './protocol.ts'

const isRoot = process.geteuid?.() === 0
const asRoot = isRoot ? test.serial : test.serial.skip
if (!isRoot) process.stderr.write('SKIPPED: most unpack tests need root (chroot, chown, mknod)\n')

const NEVER = new AbortController().signal
const getXattr = koffi
  .load(null)
  .func('intptr_t lgetxattr(const char *path, const char *name, void *value, size_t size)')

function xattr(path: string, name: string): Buffer | undefined {
  const value = Buffer.alloc(256)
  const size: unknown = getXattr(path, name, value, value.length)
  return typeof size === 'number' && size >= 0 ? value.subarray(0, size) : undefined
}

interface Outcome {
  readonly root: string
  readonly summary?: UnpackSummary
  readonly error?: { readonly code: string; readonly message: string }
}

/** Unpacks into `<directory>/outer/root`, so that an escape is seen in `outer`. */
async function unpack(
  directory: string,
  blob: Uint8Array,
  options: {
    readonly tar?: Uint8Array
    readonly limits?: Partial<UnpackLimits>
    readonly diffId?: Digest
    readonly digest?: Digest
    readonly signal?: AbortSignal
  } = {},
): Promise<Outcome> {
  const root = `${directory}/outer/root`
  mkdirSync(root, { recursive: true })
  const source = {
    digest: options.digest ?? sha256(blob),
    diffId: options.diffId ?? sha256(options.tar ?? blob),
    read: () => stream(blob),
  }
  const limits = { ...DEFAULT_UNPACK_LIMITS, ...options.limits }
  const target = { directory: root, limits }
  try {
    const summary = await unpackLayer(systemClock, source, target, options.signal ?? NEVER)
    return { root, summary }
  } catch (error) {
    if (!isSwarmError(error)) throw error
    return { root, error: { code: error.code, message: error.message } }
  }
}

/** Names, modes, owners, link targets, link counts and times of a tree. */
function list(path: string): string {
  const format = '%p %M %U:%G %l %n %T@\\n'
  const command = `cd ${path} && find . -printf '${format}' | LC_ALL=C sort`
  return execFileSync('sh', ['-c', command], { encoding: 'utf8' })
}

asRoot('a tree that the system tar packed comes out identical', async (t) => {
  await using directory = await temporaryDirectory()
  const source = `${directory.path}/source`
  mkdirSync(`${source}/usr/bin`, { recursive: true })
  await writeFile(`${source}/usr/bin/tool`, 'tool', { mode: 0o4755 })
  await writeFile(`${source}/etc`, 'secret', { mode: 0o640 })
  await chown(`${source}/etc`, 123, 456)
  execFileSync('sh', [
    '-c',
    `cd ${source} && ln -s usr/bin bin && ln usr/bin/tool usr/bin/alias && mkfifo pipe &&
     chmod 4755 usr/bin/tool && chmod 1777 usr && printf '\\303\\277' > "$(printf 'b\\377d')" &&
     find . -depth -exec touch -h -d 2001-02-03T04:05:06.25 {} +`,
  ])
  const packed = execFileSync('tar', ['--format=pax', '-C', source, '-cf', '-', '.'])
  const { root, summary, error } = await unpack(directory.path, packed)
  t.is(error, undefined)
  t.is(summary?.entries, 9)
  t.is(list(root), list(source))
  t.is(readFileSync(`${root}/usr/bin/alias`, 'utf8'), 'tool')
})

asRoot('whiteouts become overlayfs marks and hide lower layers only', async (t) => {
  await using directory = await temporaryDirectory()
  const { root, error } = await unpack(
    directory.path,
    tarOf([
      { path: 'a/.wh.gone' },
      { path: 'opaque/', type: 'directory' },
      { path: 'opaque/.wh..wh..opq' },
      { path: 'opaque/kept', content: 'kept' },
      { path: '.wh..wh.plnk', content: 'aufs' },
      { path: 'same', content: 'this layer' },
      { path: '.wh.same' },
      { path: '.wh.again' },
      { path: 'again/', type: 'directory' },
      { path: 'dir/file', content: 'x' },
      { path: '.wh.dir' },
    ]),
  )
  t.is(error, undefined)
  const whiteout = lstatSync(`${root}/a/gone`)
  t.true(whiteout.isCharacterDevice())
  t.is(whiteout.rdev, 0)
  t.deepEqual(xattr(`${root}/opaque`, 'trusted.overlay.opaque'), Buffer.from('y'))
  t.is(readFileSync(`${root}/opaque/kept`, 'utf8'), 'kept')
  t.is(readFileSync(`${root}/same`, 'utf8'), 'this layer')
  t.deepEqual(xattr(`${root}/again`, 'trusted.overlay.opaque'), Buffer.from('y'))
  t.deepEqual(xattr(`${root}/dir`, 'trusted.overlay.opaque'), Buffer.from('y'))
  t.is(readFileSync(`${root}/dir/file`, 'utf8'), 'x')
  t.deepEqual(readdirSync(root).toSorted(), ['a', 'again', 'dir', 'opaque', 'same'])
})

asRoot('capabilities and user attributes are kept, trusted ones are not', async (t) => {
  await using directory = await temporaryDirectory()
  const capability = Buffer.from('0100000200040000000000000000000000000000', 'hex')
  const { root, summary } = await unpack(
    directory.path,
    tarOf([
      {
        path: 'ping',
        mode: 0o755,
        uid: 7,
        content: 'program',
        xattrs: {
          'security.capability': capability,
          'user.note': Buffer.from([0, 255, 1]),
          'user.overlay.opaque': Buffer.from('y'),
          'trusted.overlay.opaque': Buffer.from('y'),
          'security.selinux': Buffer.from('label'),
        },
      },
    ]),
  )
  t.deepEqual(xattr(`${root}/ping`, 'security.capability'), capability)
  t.deepEqual(xattr(`${root}/ping`, 'user.note'), Buffer.from([0, 255, 1]))
  t.is(xattr(`${root}/ping`, 'trusted.overlay.opaque'), undefined)
  t.is(xattr(`${root}/ping`, 'user.overlay.opaque'), undefined)
  t.is(summary?.skippedXattrs, 3)
})

const link = (path: string, linkPath: string): Member => ({ path, type: 'symlink', linkPath })
const hard = (path: string, linkPath: string): Member => ({ path, type: 'hardlink', linkPath })

/** Attack, and what must be inside afterwards (or the refusal). */
const ATTACKS: Readonly<
  Record<string, { members: readonly Member[]; inside?: string; refused?: RegExp }>
> = {
  'climbs with ..': { members: [{ path: '../../escaped', content: 'x' }], inside: 'escaped' },
  'has an absolute path': {
    members: [{ path: '/abs/escaped', content: 'x' }],
    inside: 'abs/escaped',
  },
  'writes through an absolute symbolic link': {
    members: [link('out', '/'), { path: 'out/escaped', content: 'x' }],
    inside: 'escaped',
  },
  'writes through a climbing symbolic link': {
    members: [link('out', '../../..'), { path: 'out/escaped', content: 'x' }],
    inside: 'escaped',
  },
  'writes through a file symbolic link': {
    members: [link('target', '../escaped'), { path: 'target', content: 'x' }],
    inside: 'target',
  },
  'links hard to the host': {
    members: [hard('passwd', '/etc/passwd')],
    refused: /hard link target .* does not exist/,
  },
  'chains symbolic links and a hard link': {
    members: [
      link('a', '..'),
      link('b', 'a/../..'),
      hard('stolen', 'b/etc/passwd'),
      { path: 'stolen', content: 'x' },
    ],
    refused: /does not exist/,
  },
  'loops symbolic links': {
    members: [link('a', 'b'), link('b', 'a'), { path: 'a/file', content: 'x' }],
    refused: /too many symbolic links/,
  },
  'has an empty whiteout': { members: [{ path: 'd/.wh.' }], refused: /names no file/ },
  'has a whiteout of .': { members: [{ path: '.wh..' }], refused: /names no file/ },
  'has a whiteout of ..': { members: [{ path: 'd/.wh...' }], refused: /names no file/ },
  'hides the root': { members: [{ path: '../.wh.root' }], inside: 'root' },
  'links to itself': {
    members: [{ path: 'f', content: 'x' }, hard('f', 'f')],
    refused: /names itself/,
  },
  'links hard to a directory': {
    members: [{ path: 'd', type: 'directory' }, hard('e', 'd')],
    refused: /is a directory/,
  },
  'replaces the root': { members: [link('.', '/etc')], refused: /root is not a directory/ },
  'uses a file as parent': {
    members: [
      { path: 'f', content: 'x' },
      { path: 'f/g', content: 'x' },
    ],
    refused: /is not a directory/,
  },
  'has a component that is too long': {
    members: [{ path: 'n'.repeat(256), content: 'x' }],
    refused: /longer than 255/,
  },
  'has a path that is too long': {
    members: [{ path: 'n/'.repeat(2100), content: 'x' }],
    refused: /longer than 4096/,
  },
}

for (const [name, attack] of Object.entries(ATTACKS)) {
  asRoot(`a layer that ${name} stays inside`, async (t) => {
    await using directory = await temporaryDirectory()
    const { root, error } = await unpack(directory.path, tarOf(attack.members))
    t.deepEqual(await readdir(`${directory.path}/outer`), ['root'])
    t.false(existsSync('/escaped') || existsSync('/abs'))
    if (attack.refused !== undefined) {
      t.is(error?.code, 'INVALID_ARGUMENT')
      t.regex(error?.message ?? '', attack.refused)
    } else {
      t.is(error, undefined)
      t.truthy(lstatSync(`${root}/${attack.inside ?? ''}`, { throwIfNoEntry: false }))
    }
  })

  test.serial(`without root too, a layer that ${name} stays inside`, async (t) => {
    await using directory = await temporaryDirectory()
    const root = `${directory.path}/outer/root`
    mkdirSync(root, { recursive: true })
    const report = await unpackAsUser(root, tarOf(attack.members))
    t.deepEqual(await readdir(`${directory.path}/outer`), ['root'])
    t.false(existsSync('/escaped') || existsSync('/abs'))
    if (attack.refused === undefined) t.is(report.type, 'done')
    else t.regex(report.type === 'failed' ? report.message : 'done', attack.refused)
  })
}

/** Runs the child in user mode, as another user when this is root. */
async function unpackAsUser(root: string, tar: Uint8Array): Promise<UnpackReport> {
  const limits = { maxEntries: 1000, maxBytes: 1 << 20 }
  const order: UnpackOrder = { directory: root, mode: 'user', ...limits, allowDevices: false }
  const program = fileURLToPath(new URL('child.ts', import.meta.url))
  const child = spawn(process.execPath, ['--no-warnings', program, JSON.stringify(order)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {},
  })
  child.stdin.on('error', () => undefined)
  child.stdin.end(tar)
  let output = ''
  for await (const chunk of child.stdout.setEncoding('utf8')) output += String(chunk)
  return JSON.parse(output) as UnpackReport
}

test('without root, owners and special bits are dropped and the owner can clean up', async (t) => {
  await using directory = await temporaryDirectory()
  const report = await unpackAsUser(
    directory.path,
    tarOf([
      { path: 'locked/', type: 'directory', mode: 0o500, uid: 4711 },
      { path: 'locked/tool', mode: 0o4711, uid: 4711, content: 'x' },
      { path: 'locked/.wh..wh..opq' },
    ]),
  )
  t.is(report.type, 'done')
  const locked = lstatSync(`${directory.path}/locked`)
  t.is(locked.mode & 0o777, 0o700)
  t.is(locked.uid, process.geteuid?.() ?? 0)
  t.is(lstatSync(`${directory.path}/locked/tool`).mode & 0o7777, 0o711)
  t.deepEqual(xattr(`${directory.path}/locked`, 'user.overlay.opaque'), Buffer.from('y'))
})

asRoot('device nodes are left out, and hard links to them too', async (t) => {
  await using directory = await temporaryDirectory()
  const { root, summary } = await unpack(
    directory.path,
    tarOf([
      { path: 'dev/sda', type: 'blockDevice', major: 8, minor: 0 },
      { path: 'dev/mem', type: 'characterDevice', major: 1, minor: 1 },
      hard('disk', 'dev/sda'),
      { path: 'pipe', type: 'fifo' },
    ]),
  )
  t.deepEqual(readdirSync(root).toSorted(), ['dev', 'pipe'])
  t.deepEqual(readdirSync(`${root}/dev`), [])
  t.is(summary?.skippedDevices, 3)
})

asRoot('merged directories that are symbolic links are followed', async (t) => {
  await using directory = await temporaryDirectory()
  const { root, error } = await unpack(
    directory.path,
    tarOf([
      link('bin', 'usr/bin'),
      { path: 'bin/sh', content: 'shell' },
      link('lib', '/usr/lib64'),
      { path: 'lib/x/libc', content: 'libc' },
    ]),
  )
  t.is(error, undefined)
  t.is(readFileSync(`${root}/usr/bin/sh`, 'utf8'), 'shell')
  t.is(readFileSync(`${root}/usr/lib64/x/libc`, 'utf8'), 'libc')
  t.is(readlinkSync(`${root}/bin`), 'usr/bin')
})

asRoot('gzip and zstd layers unpack; a wrong diff_id or digest is refused', async (t) => {
  await using directory = await temporaryDirectory()
  const tar = tarOf([{ path: 'f', content: 'x'.repeat(100_000) }])
  for (const [index, blob] of [gzipSync(tar), zstdCompressSync(tar)].entries()) {
    const { root, error } = await unpack(`${directory.path}/${index}`, blob, { tar })
    t.is(error, undefined)
    t.is(readFileSync(`${root}/f`, 'utf8').length, 100_000)
  }
  const other = sha256(Buffer.from('other'))
  const wrongDiff = await unpack(`${directory.path}/d`, gzipSync(tar), { diffId: other })
  t.is(wrongDiff.error?.code, 'INVALID_ARGUMENT')
  t.regex(wrongDiff.error?.message ?? '', /diff_id/)
  const rotten = await unpack(`${directory.path}/r`, tar, { digest: other })
  t.is(rotten.error?.code, 'STORAGE_CORRUPT')
  const cut = await unpack(`${directory.path}/c`, gzipSync(tar).subarray(0, 150), { tar })
  t.is(cut.error?.code, 'INVALID_ARGUMENT')
  const trailing = Buffer.concat([gzipSync(tar), Buffer.from('more')])
  const garbage = await unpack(`${directory.path}/g`, trailing, { tar })
  t.is(garbage.error?.code, 'INVALID_ARGUMENT')
})

asRoot('bombs are stopped', async (t) => {
  await using directory = await temporaryDirectory()
  const zeros = Buffer.alloc(300 << 20)
  for (const [name, blob] of [
    ['gzip', gzipSync(zeros, { level: 9 })],
    ['zstd', zstdCompressSync(zeros)],
  ] as const) {
    const bomb = await unpack(`${directory.path}/${name}`, blob, { tar: zeros })
    t.is(bomb.error?.code, 'RESOURCE_EXHAUSTED', name)
  }
  const limits = { maxBytes: 1000 }
  const large = tarOf([{ path: 'f', content: 'x'.repeat(1001) }])
  t.is((await unpack(`${directory.path}/l`, large, { limits })).error?.code, 'RESOURCE_EXHAUSTED')
  const many = tarOf(['a', 'b', 'c', 'd'].map((path) => ({ path })))
  const crowd = await unpack(`${directory.path}/m`, many, { limits: { maxEntries: 3 } })
  t.regex(crowd.error?.message ?? '', /more than 3 entries/)
})

asRoot('a zstd frame that wants a window above 128 MiB is refused', async (t) => {
  await using directory = await temporaryDirectory()
  const tar = Buffer.alloc(1 << 20)
  const params = { [constants.ZSTD_c_windowLog]: 28, [constants.ZSTD_c_contentSizeFlag]: 0 }
  const blob = zstdCompressSync(tar, { params })
  // Window descriptor byte of the frame header: 2^28.
  const frame = Buffer.from(blob)
  if (((frame[4] ?? 0) & 0x20) === 0) frame[5] = (28 - 10) << 3
  const { error } = await unpack(directory.path, frame, { tar })
  t.is(error?.code, 'INVALID_ARGUMENT')
})

asRoot('withdrawing stops the child', async (t) => {
  await using directory = await temporaryDirectory()
  const controller = new AbortController()
  const tar = tarOf([{ path: 'f', content: Buffer.alloc(8 << 20) }])
  const outcome = unpack(directory.path, tar, { signal: controller.signal })
  controller.abort()
  t.is((await outcome).error?.code, 'ABORTED')
})
