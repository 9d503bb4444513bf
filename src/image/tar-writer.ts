/**
 * A small tar writer: ustar headers, a PAX header where a value does not fit (long names, large
 * files, extended attributes). Deterministic: the same entries give the same bytes. Used by
 * exports, by `scripts/make-image.ts` and by tests.
 */
import { BLOCK_BYTES } from './tar-header.ts'
import type { TarEntryType } from './tar-header.ts'

/** What to write; everything left out is zero or empty. */
export interface TarMember {
  readonly path: string
  readonly type?: TarEntryType
  readonly mode?: number
  readonly uid?: number
  readonly gid?: number
  readonly modifiedSeconds?: number
  readonly linkPath?: string
  readonly major?: number
  readonly minor?: number
  readonly xattrs?: Readonly<Record<string, Uint8Array>>
  /** Bytes of content that follow the header. */
  readonly sizeBytes?: number
}

const FLAGS: Readonly<Record<TarEntryType, string>> = {
  file: '0',
  hardlink: '1',
  symlink: '2',
  characterDevice: '3',
  blockDevice: '4',
  directory: '5',
  fifo: '6',
}

const NAME_BYTES = 100
/** Largest number in eleven octal digits. */
const MAX_OCTAL = 8 ** 11 - 1
const DEFAULT_FILE_MODE = 0o644
const DEFAULT_DIRECTORY_MODE = 0o755

/** Header blocks of one member; the caller writes the content and then {@link tarPadding}. */
export function tarHeader(member: TarMember): Uint8Array {
  const records = paxRecords(member)
  const header = headerBlock(member)
  if (records.length === 0) return header
  const body = Buffer.concat(records)
  const before = headerBlock({ path: 'PaxHeader', sizeBytes: body.length }, 'x')
  return Buffer.concat([before, body, tarPadding(body.length), header])
}

/** Zeros that fill the last block of `sizeBytes` of content. */
export function tarPadding(sizeBytes: number): Uint8Array {
  return new Uint8Array((BLOCK_BYTES - (sizeBytes % BLOCK_BYTES)) % BLOCK_BYTES)
}

/** One member whose content is in memory. */
export function tarMember(member: TarMember, content: Uint8Array = new Uint8Array()): Uint8Array {
  const header = tarHeader({ ...member, sizeBytes: content.length })
  return Buffer.concat([header, content, tarPadding(content.length)])
}

/** The two zero blocks that end an archive. */
export function tarEnd(): Uint8Array {
  return new Uint8Array(2 * BLOCK_BYTES)
}

function paxRecords(member: TarMember): Uint8Array[] {
  const records: Uint8Array[] = []
  const { path, linkPath = '', sizeBytes = 0, xattrs = {} } = member
  if (Buffer.byteLength(path) > NAME_BYTES) records.push(paxRecord('path', Buffer.from(path)))
  if (Buffer.byteLength(linkPath) > NAME_BYTES) {
    records.push(paxRecord('linkpath', Buffer.from(linkPath)))
  }
  if (sizeBytes > MAX_OCTAL) records.push(paxRecord('size', Buffer.from(String(sizeBytes))))
  for (const [name, value] of Object.entries(xattrs)) {
    records.push(paxRecord(`SCHILY.xattr.${name}`, value))
  }
  return records
}

/** `length keyword=value\n`, where length counts its own digits. */
function paxRecord(keyword: string, value: Uint8Array): Uint8Array {
  const rest = Buffer.concat([Buffer.from(` ${keyword}=`), value, Buffer.from('\n')])
  let length = rest.length + 1
  while (String(length).length + rest.length !== length) length++
  return Buffer.concat([Buffer.from(String(length)), rest])
}

function headerBlock(member: TarMember, flag = FLAGS[member.type ?? 'file']): Uint8Array {
  const block = Buffer.alloc(BLOCK_BYTES)
  const octal = (value: number, offset: number, width: number): void => {
    const digits = Math.min(value, 8 ** (width - 1) - 1).toString(8)
    block.write(digits.padStart(width - 1, '0'), offset, 'latin1')
  }
  const defaultMode = member.type === 'directory' ? DEFAULT_DIRECTORY_MODE : DEFAULT_FILE_MODE
  block.set(Buffer.from(member.path).subarray(0, NAME_BYTES), 0)
  octal(member.mode ?? defaultMode, 100, 8)
  octal(member.uid ?? 0, 108, 8)
  octal(member.gid ?? 0, 116, 8)
  octal(member.sizeBytes ?? 0, 124, 12)
  octal(member.modifiedSeconds ?? 0, 136, 12)
  block.fill(' ', 148, 156)
  block.write(flag, 156, 'latin1')
  block.set(Buffer.from(member.linkPath ?? '').subarray(0, NAME_BYTES), 157)
  block.write('ustar\x0000', 257, 'latin1')
  octal(member.major ?? 0, 329, 8)
  octal(member.minor ?? 0, 337, 8)
  const checksum = block.reduce((sum, byte) => sum + byte, 0)
  block.write(`${checksum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}
