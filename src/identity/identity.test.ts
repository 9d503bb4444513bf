/* Keys, names, tokens, certificates, proofs and sealing, with properties where there is a law. */
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import * as fc from 'fast-check'
import { encode } from 'msgpackr'
import { isSwarmError } from '../base/errors.ts'
import { seededRandom, systemRandom } from '../base/random.ts'
import { issueCertificate, verifyCertificate } from './certificate.ts'
import { newClusterRoot, rootDigest } from './cluster-root.ts'
import { signingKey, verifySignature } from './ed25519.ts'
import { isJoinProof, joinProof, provenSecret, type JoinExchange } from './join-proof.ts'
import { formatJoinToken, newJoinSecret, parseJoinToken } from './join-token.ts'
import { loadOrCreateNodeKey, nodeKey } from './node-key.ts'
import {
  isUsedBy,
  ONCE_TOKENS_MAX,
  withOnceSecret,
  withoutUnused,
  withUsedOnceSecret,
  type OnceSecret,
} from './once-secrets.ts'
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
  const once: readonly OnceSecret[] = [
    { role: 'manager', secret: 'a', usedBy: 'p' },
    { role: 'worker', secret: 'b' },
  ]
  const secrets = { worker: 'w', manager: 'm', once }
  const proven = (secret: string) => {
    return provenSecret(joinProof(secret, 'joiner', exchange), secrets, exchange)
  }
  t.deepEqual(proven('w'), { role: 'worker' })
  t.deepEqual(proven('m'), { role: 'manager' })
  t.deepEqual(proven('a'), { role: 'manager', once: 'a' })
  t.deepEqual(proven('b'), { role: 'worker', once: 'b' })
  t.is(proven('c'), undefined)
  t.is(provenSecret(joinProof('m', 'manager', exchange), secrets, exchange), undefined)
  t.is(provenSecret(new Uint8Array(0), secrets, exchange), undefined)
})

test('a one-time secret is used once, and who used it is remembered', (t) => {
  const made = withOnceSecret([], { role: 'worker', secret: 'a' })
  const used = withUsedOnceSecret(made, 'a', 'first')
  t.deepEqual(made, [{ role: 'worker', secret: 'a' }])
  t.deepEqual(used, [{ role: 'worker', secret: 'a', usedBy: 'first' }])
  t.true(isUsedBy(used, 'a', 'first'))
  t.false(isUsedBy(used, 'a', 'second'))
  t.false(isUsedBy(made, 'a', 'first'))
  for (const peerId of ['first', 'second']) {
    t.throws(() => withUsedOnceSecret(used, 'a', peerId), {
      code: 'UNAUTHENTICATED',
      message: 'join token: was used already; ask a manager for a new one',
    })
  }
  t.throws(() => withUsedOnceSecret(used, 'b', 'first'), { message: /wrong or was rotated/ })
})

test('rotation voids what is unused of that role, and nothing else', (t) => {
  const list: readonly OnceSecret[] = [
    { role: 'worker', secret: 'a' },
    { role: 'worker', secret: 'b', usedBy: 'p' },
    { role: 'manager', secret: 'c' },
  ]
  const secretsOf = (left: readonly OnceSecret[]) => left.map(({ secret }) => secret).join('')
  t.is(secretsOf(withoutUnused(list, { worker: true, manager: false })), 'bc')
  t.is(secretsOf(withoutUnused(list, { worker: false, manager: true })), 'ab')
  t.is(secretsOf(withoutUnused(list, { worker: false, manager: false })), 'abc')
})

test('the oldest used one-time secret makes room; unused ones never do', (t) => {
  let list: readonly OnceSecret[] = []
  for (let n = 0; n < ONCE_TOKENS_MAX; n += 1) {
    list = withOnceSecret(list, { role: 'worker', secret: `s${n}` })
  }
  t.throws(() => withOnceSecret(list, { role: 'worker', secret: 'x' }), {
    code: 'RESOURCE_EXHAUSTED',
    message: /^join token: 256 one-time tokens are unused/,
  })
  list = withUsedOnceSecret(withUsedOnceSecret(list, 's9', 'p'), 's3', 'q')
  list = withOnceSecret(list, { role: 'worker', secret: 'x' })
  t.is(list.length, ONCE_TOKENS_MAX)
  t.deepEqual(list.at(-1), { role: 'worker', secret: 'x' })
  t.false(isUsedBy(list, 's3', 'q'))
  t.true(isUsedBy(list, 's9', 'p'))
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
    once: [
      { role: 'worker', secret: newJoinSecret(systemRandom) },
      { role: 'manager', secret: newJoinSecret(systemRandom), usedBy: 'peer' },
    ],
  } as const
  const box = sealClusterSecrets(components, key, secrets)
  t.deepEqual(openClusterSecrets(key, box), secrets)
  t.notDeepEqual(sealClusterSecrets(components, key, secrets), box)
  t.false(Buffer.from(box).includes(secrets.workerSecret))
  t.false(Buffer.from(box).includes(secrets.once[0].secret))
})

test('a box from before there were one-time tokens opens, and a malformed one does not', (t) => {
  const key = newDataKey(systemRandom)
  const old = { rootPrivateKey: systemRandom.bytes(32), workerSecret: 'w', managerSecret: 'm' }
  const boxOf = (value: unknown) => seal(components, key, 'skein cluster secrets', encode(value))
  t.deepEqual(openClusterSecrets(key, boxOf(old)), { ...old, once: [] })
  for (const once of [null, {}, ['a'], [{ role: 'x', secret: 'a' }], [{ role: 'worker' }]]) {
    t.is(
      codeOf(() => openClusterSecrets(key, boxOf({ ...old, once }))),
      'STORAGE_CORRUPT',
    )
  }
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
