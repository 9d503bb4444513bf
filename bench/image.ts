/**
 * The image that all peers run, made on the spot: one layer with a static busybox and its applets'
 * links, as a docker-archive tar. About 2 MB, so that what is measured is the orchestrator.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** The image's name in the peers. */
export const BENCH_IMAGE = 'skein-bench:1'

const BUSYBOX_PATHS = ['/bin/busybox', '/usr/bin/busybox']
const APPLETS = ['sh', 'sleep', 'true']
const BLOCK_BYTES = 512
/** ELF program header type of the dynamic loader's path: what a static program lacks. */
const PT_INTERP = 3

interface TarEntry {
  readonly name: string
  readonly mode: number
  /** `0` file, `2` link, `5` directory. */
  readonly kind: '0' | '2' | '5'
  readonly data?: Buffer
  readonly target?: string
}

/** The image as a docker-archive tar. @throws when the machine has no static busybox */
export function benchImage(): Buffer {
  const layer = tar([
    { name: 'bin/', mode: 0o755, kind: '5' },
    { name: 'tmp/', mode: 0o1777, kind: '5' },
    { name: 'bin/busybox', mode: 0o755, kind: '0', data: staticBusybox() },
    ...APPLETS.map((applet): TarEntry => ({
      name: `bin/${applet}`,
      mode: 0o777,
      kind: '2',
      target: 'busybox',
    })),
  ])
  const config = json({
    architecture: process.arch === 'x64' ? 'amd64' : process.arch,
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['sh'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${sha256(layer)}`] },
    history: [{ created_by: 'bench/image.ts' }],
  })
  const configName = `${sha256(config)}.json`
  const manifest = [{ Config: configName, RepoTags: [BENCH_IMAGE], Layers: ['layer.tar'] }]
  return tar([
    file(configName, config),
    file('layer.tar', layer),
    file('manifest.json', json(manifest)),
  ])
}

function file(name: string, data: Buffer): TarEntry {
  return { name, mode: 0o644, kind: '0', data }
}

function staticBusybox(): Buffer {
  for (const path of BUSYBOX_PATHS) {
    const data = readOptional(path)
    if (data !== undefined && isStatic(data)) return data
  }
  throw new Error(`no static busybox at ${BUSYBOX_PATHS.join(' or ')}: install busybox-static`)
}

function readOptional(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  }
}

/** Whether a little-endian ELF64 program asks for no dynamic loader. */
function isStatic(elf: Buffer): boolean {
  const tableAt = Number(elf.readBigUInt64LE(32))
  const entryBytes = elf.readUInt16LE(54)
  const entries = elf.readUInt16LE(56)
  return Array.from({ length: entries }, (_, i) =>
    elf.readUInt32LE(tableAt + i * entryBytes),
  ).every((type) => type !== PT_INTERP)
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}

function sha256(data: Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

/** A ustar archive. */
function tar(entries: readonly TarEntry[]): Buffer {
  const parts = entries.flatMap((entry) => {
    const data = entry.data ?? Buffer.alloc(0)
    return [header(entry, data.length), data, Buffer.alloc(-data.length & (BLOCK_BYTES - 1))]
  })
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)])
}

function header(entry: TarEntry, sizeBytes: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES)
  const octal = (value: number, offset: number, digits: number): void => {
    block.write(value.toString(8).padStart(digits, '0'), offset)
  }
  block.write(entry.name, 0)
  octal(entry.mode, 100, 7)
  octal(0, 108, 7)
  octal(0, 116, 7)
  octal(sizeBytes, 124, 11)
  octal(0, 136, 11)
  block.fill(' ', 148, 156)
  block.write(entry.kind, 156)
  block.write(entry.target ?? '', 157)
  block.write('ustar\u000000', 257)
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  )
  block.write('\0 ', 154)
  return block
}
