/* Keys, names, tokens, certificates, proofs and sealing, with properties where there is a law. */
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import * as fc from 'fast-check'
import { isSwarmError } from '../base/errors.ts'
import { seededRandom, systemRandom } from '../base/random.ts'
import { issueCertificate, verifyCertificate } from './certificate.ts'
import { newClusterRoot, rootDigest } from './cluster-root.ts'
import { signingKey, verifySignature } from './ed25519.ts'
import { isJoinProof, joinProof, provenRole, type JoinExchange } from './join-proof.ts'
import { formatJoinToken, newJoinSecret, parseJoinToken } from './join-token.ts'
import { loadOrCreateNodeKey, nodeKey } from './node-key.ts'
import {
  newDataKey,
  openClusterSecrets,
  openSealed,
  readDataKey,
  seal,
  sealClusterSecrets,
  writeDataKey,
} from './sealing.ts'

const components = { random: systemRandom }
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })

/** The code of the SwarmError that `work` throws. */
function codeOf(work: () => unknown): string | undefined {
  try {
    work()
  } catch (error) {
    return isSwarmError(error) ? error.code : 'not a SwarmError'
  }
  return undefined
}

async function directory(teardown: (clean: () => Promise<void>) => void): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'skein-identity-'))
  teardown(() => rm(path, { recursive: true }))
  return path
}

test('an Ed25519 key is that of RFC 8032', (t) => {
  const seed = Buffer.from(
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'hex',
  )
  const key = signingKey(seed)
  t.is(
    Buffer.from(key.publicKey).toString('hex'),
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
  )
  const signature = key.sign(new Uint8Array(0))
  t.true(Buffer.from(signature).toString('hex').startsWith('e5564300c360ac729086e2cc806e828a'))
  t.true(verifySignature(key.publicKey, new Uint8Array(0), signature))
  t.false(verifySignature(key.publicKey, Uint8Array.of(1), signature))
  t.false(verifySignature(new Uint8Array(31), new Uint8Array(0), signature))
})

test('the node’s key is made once, private, and gives the same names for ever', async (t) => {
  const path = join(await directory(t.teardown), 'node.key')
  const first = await loadOrCreateNodeKey(path, systemRandom)
  const second = await loadOrCreateNodeKey(path, systemRandom)
  t.deepEqual(second.publicKey, first.publicKey)
  t.is(second.nodeId, first.nodeId)
  t.regex(first.nodeId, /^[0-9a-z]{25}$/)
  t.regex(first.peerId, /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/)
  const { mode, size } = await stat(path)
  t.is(mode & 0o777, 0o600)
  t.is(size, 32)
})

test('a key file of another length is damage, not a reason to make a new key', async (t) => {
  const path = join(await directory(t.teardown), 'node.key')
  await writeFile(path, 'short')
  await t.throwsAsync(loadOrCreateNodeKey(path, systemRandom), { code: 'STORAGE_CORRUPT' })
})

test('a token is read back, whatever root and secret it is made of', (t) => {
  fc.assert(
    fc.property(bytes32, fc.integer({ min: 0, max: 0xffffffff }), (publicKey, seed) => {
      const secret = newJoinSecret(seededRandom(seed))
      const token = formatJoinToken(publicKey, secret)
      t.regex(token, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/)
      t.deepEqual(parseJoinToken(token), { rootDigest: rootDigest(publicKey), secret })
    }),
  )
})

test('no text but a token is read as one, and the error never shows a secret', (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      t.is(
        codeOf(() => parseJoinToken(text)),
        'INVALID_ARGUMENT',
      )
    }),
  )
  const good = formatJoinToken(new Uint8Array(32), newJoinSecret(systemRandom))
  const secret = good.slice(-25)
  const bad = [
    good.replace('SWMTKN', 'TOKEN'),
    good.replace('-1-', '-2-'),
    `${good}-x`,
    `${good}0`,
    good.slice(0, -1),
    good.toUpperCase(),
    good.replace(/-1-./, '-1-'),
    '',
  ]
  for (const text of bad) {
    const error = t.throws(() => parseJoinToken(text), { code: 'INVALID_ARGUMENT' })
    t.true(error.message.startsWith('join token: '))
    t.false(error.message.includes(secret))
  }
  t.deepEqual(parseJoinToken(`  ${good}\n`), parseJoinToken(good))
})

test('a certificate attests its peer, and only under its root', (t) => {
  const root = newClusterRoot(systemRandom)
  const certificate = { peerId: nodeKey(systemRandom.bytes(32)).peerId, role: 'manager', serial: 9 }
  const box = issueCertificate(root, { ...certificate, role: 'manager' })
  t.deepEqual<unknown, unknown>(verifyCertificate(root.publicKey, box), certificate)
  const other = newClusterRoot(systemRandom)
  t.is(
    codeOf(() => verifyCertificate(other.publicKey, box)),
    'UNAUTHENTICATED',
  )
  fc.assert(
    fc.property(fc.nat(box.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const changed = Uint8Array.from(box, (byte, index) => (index === at ? byte ^ flip : byte))
      t.is(
        codeOf(() => verifyCertificate(root.publicKey, changed)),
        'UNAUTHENTICATED',
      )
    }),
  )
})

test('a proof holds for its secret, direction, keys and nonces alone', (t) => {
  const exchange: JoinExchange = {
    managerPeerId: 'm',
    joinerPeerId: 'j',
    managerNonce: new Uint8Array(32).fill(1),
    joinerNonce: new Uint8Array(32).fill(2),
  }
  const proof = joinProof('secret', 'joiner', exchange)
  t.true(isJoinProof(proof, 'secret', 'joiner', exchange))
  t.false(isJoinProof(proof, 'other', 'joiner', exchange))
  t.false(isJoinProof(proof, 'secret', 'manager', exchange))
  t.false(isJoinProof(proof.subarray(1), 'secret', 'joiner', exchange))
  const changes: Partial<JoinExchange>[] = [
    { managerPeerId: 'x' },
    { joinerPeerId: 'x' },
    { managerPeerId: 'mj', joinerPeerId: '' },
    { managerNonce: new Uint8Array(32) },
    { joinerNonce: new Uint8Array(32) },
  ]
  for (const change of changes) {
    t.false(isJoinProof(proof, 'secret', 'joiner', { ...exchange, ...change }))
  }
})

test('the secret that was proven decides the role', (t) => {
  const exchange: JoinExchange = {
    managerPeerId: 'm',
    joinerPeerId: 'j',
    managerNonce: new Uint8Array(32),
    joinerNonce: new Uint8Array(32),
  }
  const secrets = { worker: 'w', manager: 'm' }
  t.is(provenRole(joinProof('w', 'joiner', exchange), secrets, exchange), 'worker')
  t.is(provenRole(joinProof('m', 'joiner', exchange), secrets, exchange), 'manager')
  t.is(provenRole(joinProof('m', 'manager', exchange), secrets, exchange), undefined)
  t.is(provenRole(new Uint8Array(0), secrets, exchange), undefined)
})

test('what is sealed opens under the same key and purpose, and no changed byte passes', (t) => {
  const key = newDataKey(systemRandom)
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.string(), fc.nat(), (plain, purpose, n) => {
      const box = seal(components, key, purpose, plain)
      t.deepEqual(openSealed(key, purpose, box), plain)
      const at = n % box.length
      const changed = Uint8Array.from(box, (byte, index) => (index === at ? byte ^ 1 : byte))
      for (const work of [
        () => openSealed(key, purpose, changed),
        () => openSealed(key, `${purpose}.`, box),
        () => openSealed(newDataKey(systemRandom), purpose, box),
        () => openSealed(key, purpose, box.subarray(0, box.length - 1)),
      ]) {
        t.is(codeOf(work), 'STORAGE_CORRUPT')
      }
    }),
    { numRuns: 50 },
  )
})

test('cluster secrets survive sealing, and two boxes of the same are different', (t) => {
  const key = newDataKey(systemRandom)
  const secrets = {
    rootPrivateKey: systemRandom.bytes(32),
    workerSecret: newJoinSecret(systemRandom),
    managerSecret: newJoinSecret(systemRandom),
  }
  const box = sealClusterSecrets(components, key, secrets)
  t.deepEqual(openClusterSecrets(key, box), secrets)
  t.notDeepEqual(sealClusterSecrets(components, key, secrets), box)
  t.false(Buffer.from(box).includes(secrets.workerSecret))
})

test('the data key is kept in a private file, alone', async (t) => {
  const folder = await directory(t.teardown)
  const path = join(folder, 'data.key')
  t.is(await readDataKey(path), undefined)
  const key = newDataKey(systemRandom)
  await writeDataKey(path, newDataKey(systemRandom))
  await writeDataKey(path, key)
  t.deepEqual(await readDataKey(path), key)
  t.is((await stat(path)).mode & 0o777, 0o600)
  t.deepEqual(await readdir(folder), ['data.key'])
})
