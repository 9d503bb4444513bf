import { execFileSync } from 'node:child_process'
import { linkSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import test from 'ava'
import * as fc from 'fast-check'
import { isSwarmError } from '../base/errors.ts'
import { tarOf, temporaryDirectory } from './testing/image-fixtures.ts'
import type { Member } from './testing/image-fixtures.ts'
import type { TarEntry } from './tar-header.ts'
import { TarReader } from './tar-reader.ts'
import { tarEnd, tarHeader } from './tar-writer.ts'

interface Read {
  readonly entry: TarEntry
  readonly content: Buffer
}

function read(tar: Uint8Array, piece = tar.length, maxEntries = 1000): Read[] {
  const reader = new TarReader({ maxEntries })
  const entries: Read[] = []
  let parts: Buffer[] = []
  let current: TarEntry | undefined
  for (let offset = 0; offset < tar.length; offset += piece) {
    for (const event of reader.push(tar.subarray(offset, offset + piece))) {
      if (event.type === 'entry') current = event.entry
      else if (event.type === 'data') parts.push(Buffer.from(event.bytes))
      else if (current !== undefined) {
        entries.push({ entry: current, content: Buffer.concat(parts) })
        parts = []
      }
    }
  }
  reader.finish()
  return entries
}

function refusal(tar: Uint8Array): string {
  try {
    read(tar)
  } catch (error) {
    if (isSwarmError(error, 'INVALID_ARGUMENT')) return error.message
    throw error
  }
  return 'accepted'
}

for (const format of ['ustar', 'pax', 'gnu', 'v7', 'oldgnu']) {
  test(`a tar that the system's tar wrote as ${format} is read whole`, async (t) => {
    await using directory = await temporaryDirectory()
    const root = `${directory.path}/root`
    const long = format === 'v7' ? 'short' : `${'d'.repeat(60)}/${'e'.repeat(70)}`
    mkdirSync(`${root}/${long}`, { recursive: true })
    writeFileSync(`${root}/${long}/file`, 'x'.repeat(1500))
    writeFileSync(`${root}/empty`, '')
    symlinkSync('empty', `${root}/link`)
    linkSync(`${root}/empty`, `${root}/hard`)
    utimesSync(`${root}/empty`, 1_000_000_000.5, 1_000_000_000.5)
    const options = [`--format=${format}`, '--owner=1000', '--group=1001', '--sort=name']
    const tar = execFileSync('tar', [...options, '-C', root, '-cf', '-', '.'])
    const entries = new Map(read(tar, 777).map((item) => [item.entry.path, item]))
    t.is(entries.get(`./${long}/file`)?.content.toString(), 'x'.repeat(1500))
    t.is(entries.get('./')?.entry.type, 'directory')
    t.is(entries.get('./link')?.entry.linkPath, 'empty')
    t.is(entries.get('./hard')?.entry.type, 'hardlink')
    t.is(entries.get('./hard')?.entry.linkPath, './empty')
    const empty = entries.get('./empty')?.entry
    t.deepEqual([empty?.uid, empty?.gid], [1000, 1001])
    t.is(empty?.modifiedSeconds, format === 'pax' ? 1_000_000_000.5 : 1_000_000_000)
  })
}

test('an archive reads the same however its bytes are cut', (t) => {
  const path = fc.stringMatching(/^[a-z]{1,200}$/)
  const member = fc.record({ path, content: fc.uint8Array({ maxLength: 2000 }) })
  const property = fc.property(
    fc.array(member, { minLength: 1, maxLength: 6 }),
    fc.integer({ min: 1, max: 1500 }),
    (members, piece) => {
      const entries = read(tarOf(members), piece)
      t.deepEqual(
        entries.map(({ entry, content }) => [entry.path, content.toString('hex')]),
        members.map((one) => [one.path, Buffer.from(one.content).toString('hex')]),
      )
    },
  )
  fc.assert(property, { numRuns: 60 })
})

test('binary attribute values, long names and names that are not UTF-8 survive', (t) => {
  const capability = Buffer.from('0100000200202080000000000000000000000000', 'hex')
  const path = `${'long/'.repeat(40)}name`
  const [first] = read(tarOf([{ path, xattrs: { 'security.capability': capability } }]))
  t.is(first?.entry.path, path)
  t.deepEqual(Buffer.from(first?.entry.xattrs.get('security.capability') ?? []), capability)
  const header = Buffer.from(tarHeader({ path: 'a_b' }))
  header[1] = 0xff
  fixChecksum(header)
  t.is(read(Buffer.concat([header, tarEnd()]))[0]?.entry.path, 'a\u00ffb')
})

test('numbers in base 256 are read, and refused when negative or too large', (t) => {
  t.is(read(withUid([0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]))[0]?.entry.uid, 0x7fff_ffff)
  t.regex(refusal(withUid([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])), /out of range/)
  t.regex(refusal(withUid([0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])), /out of range/)
})

test('malformed archives are refused with a reason', (t) => {
  const good = tarOf([{ path: 'file', content: 'content' }])
  const damaged = Buffer.from(good)
  damaged[0] = 0x41
  t.regex(refusal(damaged), /checksum/)
  t.regex(refusal(good.subarray(0, 700)), /cut short/)
  t.regex(refusal(good.subarray(0, 100)), /cut short/)
  t.regex(refusal(Buffer.from('hello '.repeat(200))), /checksum|malformed/)
  t.regex(refusal(new Uint8Array()), /not a tar/)
  t.regex(refusal(rawMember('x', '9999999999 path=a\n')), /PAX/)
  t.regex(refusal(rawMember('x', '11 path=a\nxx')), /PAX/)
  t.regex(refusal(rawMember('x', '10 path=a\0')), /PAX/)
  t.regex(refusal(rawMember('x', '13 path=a\0bc\n')), /NUL/)
  t.regex(refusal(rawMember('x', '22 GNU.sparse.major=1\n')), /sparse/)
  t.regex(refusal(rawMember('x', '12 size=-44\n')), /size/)
  t.regex(refusal(rawMember('S', '')), /not supported/)
  t.regex(refusal(Buffer.concat(Array.from({ length: 9 }, () => metadata('L', 'a')))), /too many/)
})

test('a metadata header that claims more than a mebibyte is refused before it is read', (t) => {
  const header = Buffer.from(tarHeader({ path: 'h', sizeBytes: (1 << 20) + 1 }))
  header.write('x', 156)
  fixChecksum(header)
  const reader = new TarReader({ maxEntries: 1 })
  t.throws(() => [...reader.push(header)], { message: /bad size/ })
})

test('the number of entries is limited', (t) => {
  const members = Array.from({ length: 4 }, (_, index): Member => ({ path: `f${index}` }))
  t.is(read(tarOf(members), 512, 4).length, 4)
  t.throws(() => read(tarOf(members), 512, 3), { message: /more than 3 entries/ })
})

test('an empty archive of two zero blocks is an empty layer', (t) => {
  t.deepEqual(read(Buffer.alloc(1024)), [])
})

function withUid(bytes: readonly number[]): Buffer {
  const header = Buffer.from(tarHeader({ path: 'a' }))
  header.set(bytes, 108)
  fixChecksum(header)
  return Buffer.concat([header, tarEnd()])
}

/** A metadata member of type `flag` followed by an ordinary file. */
function rawMember(flag: string, body: string): Buffer {
  return Buffer.concat([metadata(flag, body), tarHeader({ path: 'after' }), tarEnd()])
}

function metadata(flag: string, body: string): Buffer {
  const content = Buffer.from(body)
  const header = Buffer.from(tarHeader({ path: 'meta', sizeBytes: content.length }))
  header.write(flag, 156)
  fixChecksum(header)
  return Buffer.concat([header, content, Buffer.alloc((512 - (content.length % 512)) % 512)])
}

function fixChecksum(header: Buffer): void {
  header.fill(' ', 148, 156)
  const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
}
