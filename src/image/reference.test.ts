import test from 'ava'
import { choosePlatform, isImagePlatform, normalisePlatform } from './platform.ts'
import type { WrittenPlatform } from './platform.ts'
import { canonicalTag, familiar, maybeReference, parseReference } from './reference.ts'

const HEX = 'ab'.repeat(32)

test('references get a host, a path and a tag as Docker gives them', (t) => {
  const table: [string, string][] = [
    ['web', 'docker.io/library/web:latest'],
    ['web:1', 'docker.io/library/web:1'],
    ['shop/web:1', 'docker.io/shop/web:1'],
    ['docker.io/web', 'docker.io/library/web:latest'],
    ['index.docker.io/library/web', 'docker.io/library/web:latest'],
    ['localhost/web', 'localhost/web:latest'],
    ['host:5000/a/b_c:v1.2-x', 'host:5000/a/b_c:v1.2-x'],
    ['[::1]:5000/web', '[::1]:5000/web:latest'],
    [`web:1@sha256:${HEX}`, 'docker.io/library/web:1'],
  ]
  for (const [text, canonical] of table) t.is(canonicalTag(parseReference(text)), canonical)
  t.is(parseReference(`web@sha256:${HEX}`).digest, `sha256:${HEX}`)
  t.is(parseReference(`web@sha256:${HEX}`).tag, undefined)
})

test('names are printed in their short form', (t) => {
  t.is(familiar('docker.io/library/web:1'), 'web:1')
  t.is(familiar('docker.io/shop/web:1'), 'shop/web:1')
  t.is(familiar('host:5000/web:1'), 'host:5000/web:1')
})

test('malformed references are refused', (t) => {
  const bad = [
    '',
    'Web',
    'web:',
    ':1',
    'a//b',
    'web@sha256:12',
    'a'.repeat(256),
    HEX,
    'a b',
    '../x',
  ]
  for (const text of [...bad, 'web@md5:1', 'a@b@c', '-a', 'host:x/web', 'web:-1']) {
    t.throws(() => parseReference(text), { code: 'INVALID_ARGUMENT' }, text)
    t.is(maybeReference(text), undefined)
  }
})

test('platforms have one spelling', (t) => {
  const table: [string, string | undefined, string, string | undefined][] = [
    ['x86_64', undefined, 'amd64', undefined],
    ['amd64', 'v1', 'amd64', undefined],
    ['aarch64', undefined, 'arm64', 'v8'],
    ['arm64', '8', 'arm64', 'v8'],
    ['armhf', undefined, 'arm', 'v7'],
    ['armel', undefined, 'arm', 'v6'],
    ['arm', '7', 'arm', 'v7'],
    ['i686', undefined, '386', undefined],
  ]
  for (const [architecture, variant, expected, expectedVariant] of table) {
    const normal = normalisePlatform({ os: 'Linux', architecture, variant })
    t.deepEqual(
      [normal.os, normal.architecture, normal.variant],
      ['linux', expected, expectedVariant],
    )
  }
})

test('a host takes the best manifest that it can run, never an attestation', (t) => {
  const arm64 = normalisePlatform({ os: 'linux', architecture: 'arm64' })
  const arm6 = normalisePlatform({ os: 'linux', architecture: 'arm', variant: 'v6' })
  const all = [offer('amd64'), offer('arm', 'v5'), offer('arm', 'v7'), offer('arm64')]
  t.is(choosePlatform(all, arm64), all[3])
  t.is(choosePlatform(all.slice(0, 3), arm64), all[2])
  t.is(choosePlatform(all, arm6), all[1])
  t.is(choosePlatform(all.slice(0, 1), arm64), undefined)
  t.is(choosePlatform([offer('arm64', undefined, '')], arm64), undefined)
  t.false(isImagePlatform({ os: 'unknown', architecture: 'unknown' }))
})

function offer(
  architecture: string,
  variant?: string,
  os = 'linux',
): { platform: WrittenPlatform } {
  return { platform: { os, architecture, variant } }
}
