/**
 * The unpacking child: a short-lived process that loads everything it needs, makes the layer's
 * directory its root, and applies the tar on standard input. So a mistake in the path logic cannot
 * leave the layer. One argument: an `UnpackOrder` as JSON. One line of output: an `UnpackReport`.
 */
import { closeSync, openSync, writeSync } from 'node:fs'
import { errorText, isSwarmError } from '../../base/errors.ts'
import { storageError, systemCode } from '../durable-file.ts'
import { TarReader } from '../tar-reader.ts'
import { LayerWriter } from './layer-writer.ts'
import type { UnpackOrder, UnpackReport, UnpackSummary } from './protocol.ts'
import { changeRoot, syncFileSystem } from './system-calls.ts'

const SAFE_UMASK = 0o022

/** What the system says to names and links that nothing can hold: the archive is at fault. */
const ARCHIVE_FAULTS: ReadonlySet<string> = new Set([
  'EINVAL',
  'EISDIR',
  'ELOOP',
  'EMLINK',
  'ENAMETOOLONG',
  'ENOENT',
  'ENOTDIR',
])

function decodeOrder(text: string | undefined): UnpackOrder {
  // The parent is this very program: its JSON needs no further check.
  return JSON.parse(text ?? '') as UnpackOrder
}

async function unpack(order: UnpackOrder): Promise<UnpackSummary> {
  process.umask(SAFE_UMASK)
  // Touched before the root changes, so that nothing is loaded afterwards.
  const input = process.stdin
  if (order.mode === 'overlay') changeRoot(order.directory)
  const root = order.mode === 'overlay' ? '' : order.directory
  const writer = new LayerWriter(order, root)
  const reader = new TarReader({ maxEntries: order.maxEntries })
  for await (const chunk of input) apply(writer, reader, chunk as Uint8Array)
  reader.finish()
  const summary = writer.finish()
  sync(root === '' ? '/' : root)
  return summary
}

function apply(writer: LayerWriter, reader: TarReader, chunk: Uint8Array): void {
  for (const event of reader.push(chunk)) {
    switch (event.type) {
      case 'entry':
        writer.begin(event.entry)
        break
      case 'data':
        writer.write(event.bytes)
        break
      case 'entryEnd':
        writer.end()
        break
      default:
        event satisfies never
    }
  }
}

function sync(root: string): void {
  const descriptor = openSync(root, 'r')
  try {
    syncFileSystem(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function failure(error: unknown): UnpackReport {
  if (isSwarmError(error)) return { type: 'failed', code: error.code, message: error.message }
  if (ARCHIVE_FAULTS.has(systemCode(error) ?? '')) {
    return { type: 'failed', code: 'INVALID_ARGUMENT', message: errorText(error) }
  }
  const known = storageError(error, 'layer')
  return { type: 'failed', code: known.code, message: errorText(known) }
}

let report: UnpackReport
try {
  report = { type: 'done', summary: await unpack(decodeOrder(process.argv[2])) }
} catch (error) {
  report = failure(error)
}
writeSync(1, `${JSON.stringify(report)}\n`)
process.exit(report.type === 'done' ? 0 : 1)
