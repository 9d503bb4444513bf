/**
 * Makes a small image tar from what the machine has, without any registry: `node
 * scripts/make-image.ts OUTPUT [TAG]`.
 *
 * The tar is an OCI layout and a docker-archive at once. Its files come, in this order, from a
 * static busybox; from a dynamic busybox with its libraries; from this Node and `sh` with their
 * libraries. By default a container answers HTTP on port 80 (or `$PORT`) with `replica <hostname>
 * on <$NODE>`; `sleep 1000`, `sh -c …` and so on work as commands of the same image. PID 1 ends at
 * once on SIGTERM. The same files give the same digest.
 */
import { execFile } from 'node:child_process'
import { access, mkdir, readFile, realpath, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { promisify } from 'node:util'
import { SwarmError, errorText } from '../src/base/errors.ts'
import { sha256 } from '../src/image/digest.ts'
import { MEDIA_TYPES } from '../src/image/oci-document.ts'
import { hostPlatform } from '../src/image/platform.ts'
import { canonicalTag, familiar, parseReference } from '../src/image/reference.ts'
import { tarEnd, tarMember } from '../src/image/tar-writer.ts'
import type { TarMember } from '../src/image/tar-writer.ts'

/** What was made. */
export interface DemoImage {
  /** Absolute path of the tar. */
  readonly output: string
  /** `web:1` */
  readonly tag: string
  /** Digest of the manifest. */
  readonly digest: string
  readonly sizeBytes: number
  /** Where its programs come from. */
  readonly source: 'static busybox' | 'busybox' | 'node'
}

/** Files of the image by path without leading slash. */
type Files = Map<string, { readonly member: TarMember; readonly content?: Uint8Array }>

interface Programs {
  readonly source: DemoImage['source']
  readonly files: Files
  /** Program that `/bin/serve` is. */
  readonly serve: string
}

const DEFAULT_TAG = 'skein-demo:1'
const BUSYBOX_PATHS = ['/bin/busybox', '/usr/bin/busybox']
const SHELL_PATH = '/bin/sh'
const SEARCH_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const EXECUTABLE = 0o755
const STICKY = 0o1777
const CREATED = '1970-01-01T00:00:00Z'

/**
 * The shell stays PID 1 because busybox' httpd ignores SIGTERM there (the kernel drops signals that
 * PID 1 does not handle). `wait` is what lets the trap run at once.
 */
const BUSYBOX_SERVE = `#!/bin/sh
for directory in /run/www /tmp/www /dev/shm/www; do
  mkdir -p "$directory" 2>/dev/null && : > "$directory/index.html" && break
done
echo "replica \${HOSTNAME:-$(hostname)} on \${NODE:-unknown}" > "$directory/index.html"
trap 'exit 0' TERM INT
httpd -f -p "\${PORT:-80}" -h "$directory" &
wait "$!"
`

const NODE_SERVE = `#!/bin/node
const { createServer } = require('node:http')
const { hostname } = require('node:os')
const { HOSTNAME = hostname(), NODE = 'unknown', PORT = '80' } = process.env
const body = \`replica \${HOSTNAME} on \${NODE}\\n\`
const length = Buffer.byteLength(body)
const headers = { 'content-type': 'text/plain', 'content-length': length, connection: 'close' }
createServer((_, response) => response.writeHead(200, headers).end(body)).listen(Number(PORT))
for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => process.exit(0))
`

const NODE_SLEEP = `#!/bin/node
setTimeout(() => {}, Number(process.argv[2] ?? 0) * 1000)
for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => process.exit(0))
`

/** Makes the image and writes its tar. @throws FAILED_PRECONDITION when nothing here can serve */
export async function makeDemoImage(options: {
  readonly output: string
  readonly tag?: string
  /** Takes the programs from there instead of from the first that is found. */
  readonly from?: 'busybox' | 'node'
}): Promise<DemoImage> {
  const name = canonicalTag(parseReference(options.tag ?? DEFAULT_TAG))
  const busybox = options.from === 'node' ? undefined : await busyboxPrograms()
  const programs = busybox ?? (await nodePrograms())
  addSkeleton(programs)
  const layer = layerTar(programs.files)
  const { tar, digest } = imageTar(layer, name)
  const output = resolve(options.output)
  await mkdir(dirname(output), { recursive: true })
  await writeFile(output, tar)
  const sizeBytes = tar.length
  return { output, tag: familiar(name), digest, sizeBytes, source: programs.source }
}

async function busyboxPrograms(): Promise<Programs | undefined> {
  const path = await firstExisting(BUSYBOX_PATHS)
  if (path === undefined) return undefined
  const { stdout } = await promisify(execFile)(path, ['--list'])
  const applets = stdout.split('\n').filter((applet) => /^[a-z0-9_[-]+$/.test(applet))
  if (!applets.includes('httpd') || !applets.includes('sh')) return undefined
  const files: Files = new Map()
  const libraries = await librariesOf(path)
  await addFile(files, path, 'bin/busybox')
  for (const library of libraries) await addFile(files, library, library.slice(1))
  for (const applet of applets.filter((candidate) => candidate !== 'busybox')) {
    addMember(files, { path: `bin/${applet}`, type: 'symlink', linkPath: 'busybox', mode: 0o777 })
  }
  const source = libraries.length === 0 ? 'static busybox' : 'busybox'
  return { source, files, serve: BUSYBOX_SERVE }
}

async function nodePrograms(): Promise<Programs> {
  const files: Files = new Map()
  for (const [path, target] of [
    [process.execPath, 'bin/node'],
    [SHELL_PATH, 'bin/sh'],
  ] as const) {
    await addFile(files, path, target)
    for (const library of await librariesOf(path)) await addFile(files, library, library.slice(1))
  }
  addMember(files, { path: 'bin/sleep', mode: EXECUTABLE }, Buffer.from(NODE_SLEEP))
  return { source: 'node', files, serve: NODE_SERVE }
}

/** Shared libraries and the loader, as `ldd` finds them; empty for a static program. */
async function librariesOf(path: string): Promise<string[]> {
  let text: string
  try {
    text = (await promisify(execFile)('ldd', [path])).stdout
  } catch (error) {
    const words = errorText(error)
    if (/not a dynamic executable|not a valid dynamic program/i.test(words)) return []
    throw new SwarmError('FAILED_PRECONDITION', `ldd ${path}: failed`, { cause: error })
  }
  return [...text.matchAll(/(?:=>\s+|^\s+)(\/\S+)/gm)].map((match) => match[1] ?? '')
}

async function addFile(files: Files, source: string, path: string): Promise<void> {
  const content = await readFile(await realpath(source))
  addMember(files, { path, mode: EXECUTABLE }, content)
}

function addMember(files: Files, member: TarMember, content?: Uint8Array): void {
  files.set(member.path, content === undefined ? { member } : { member, content })
}

function addSkeleton({ files, serve }: Programs): void {
  addMember(files, { path: 'bin/serve', mode: EXECUTABLE }, Buffer.from(serve))
  const accounts = 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n'
  addMember(files, { path: 'etc/passwd' }, Buffer.from(accounts))
  addMember(files, { path: 'etc/group' }, Buffer.from('root:x:0:\nnogroup:x:65534:\n'))
  for (const path of ['dev', 'proc', 'root', 'run', 'sys', 'var']) {
    addMember(files, { path, type: 'directory' })
  }
  addMember(files, { path: 'tmp', type: 'directory', mode: STICKY })
}

/** Parents before children, sorted, all times zero. */
function layerTar(files: Files): Buffer {
  const all: Files = new Map(files)
  for (const path of files.keys()) {
    for (let end = path.indexOf('/'); end !== -1; end = path.indexOf('/', end + 1)) {
      const parent = path.slice(0, end)
      if (!all.has(parent)) addMember(all, { path: parent, type: 'directory' })
    }
  }
  const paths = [...all.keys()].toSorted()
  const parts = paths.map((path) => {
    const file = all.get(path)
    return file === undefined ? Buffer.alloc(0) : tarMember(file.member, file.content)
  })
  return Buffer.concat([...parts, tarEnd()])
}

function imageTar(layer: Buffer, name: string): { readonly tar: Buffer; readonly digest: string } {
  const blobs = new Map<string, Uint8Array>()
  const add = (
    mediaType: string,
    content: Uint8Array,
  ): { readonly mediaType: string; readonly digest: string; readonly size: number } => {
    const digest = sha256(content)
    blobs.set(blobPath(digest), content)
    return { mediaType, digest, size: content.length }
  }
  const layerEntry = add(MEDIA_TYPES.layer, layer)
  const config = add(MEDIA_TYPES.config, json(imageConfig(layerEntry.digest)))
  const document = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.manifest,
    config,
    layers: [layerEntry],
  }
  const manifest = add(MEDIA_TYPES.manifest, json(document))
  const tag = name.slice(name.lastIndexOf(':') + 1)
  const annotations = {
    'io.containerd.image.name': name,
    'org.opencontainers.image.ref.name': tag,
  }
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.index,
    manifests: [{ ...manifest, annotations }],
  }
  const archive = [
    {
      Config: blobPath(config.digest),
      RepoTags: [familiar(name)],
      Layers: [blobPath(layerEntry.digest)],
    },
  ]
  const members = new Map<string, Uint8Array>([
    ['oci-layout', json({ imageLayoutVersion: '1.0.0' })],
    ['index.json', json(index)],
    ['manifest.json', json(archive)],
    ...blobs,
  ])
  const parts = [...members].map(([path, content]) => tarMember({ path }, content))
  return { tar: Buffer.concat([...parts, tarEnd()]), digest: manifest.digest }
}

function imageConfig(diffId: string): object {
  return {
    created: CREATED,
    ...hostPlatform(),
    config: {
      Env: [`PATH=${SEARCH_PATH}`],
      Cmd: ['/bin/serve'],
      WorkingDir: '/',
      ExposedPorts: { '80/tcp': {} },
      StopSignal: 'SIGTERM',
    },
    rootfs: { type: 'layers', diff_ids: [diffId] },
    history: [{ created: CREATED, created_by: 'skein scripts/make-image.ts' }],
  }
}

function json(value: object): Buffer {
  return Buffer.from(JSON.stringify(value))
}

function blobPath(digest: string): string {
  return `blobs/${digest.replace(':', '/')}`
}

async function firstExisting(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    try {
      await access(path)
      return path
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    }
  }
  return undefined
}

if (import.meta.main) {
  const [output, tag] = process.argv.slice(2)
  if (output === undefined) {
    process.stderr.write('usage: node scripts/make-image.ts OUTPUT [TAG]\n')
    process.exitCode = 2
  } else {
    const made = await makeDemoImage({ output, ...(tag !== undefined && { tag }) })
    process.stdout.write(`${JSON.stringify(made)}\n`)
  }
}
