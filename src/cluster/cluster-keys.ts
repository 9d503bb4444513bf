/**
 * The cluster's keys as this node may use them. Root key and join secrets stand in the replicated
 * cluster object, sealed under the data key; only managers hold the data key, in a file of their
 * own (mode 0600). A promoted worker asks the leader for it; a demoted manager deletes it.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { assert } from '../base/assert.ts'
import { SwarmError } from '../base/errors.ts'
import type { Random } from '../base/random.ts'
import { issueCertificate } from '../identity/certificate.ts'
import { signingKey } from '../identity/ed25519.ts'
import { formatJoinToken, newJoinSecret } from '../identity/join-token.ts'
import { withOnceSecret, withUsedOnceSecret, withoutUnused } from '../identity/once-secrets.ts'
import type { OnceSecret } from '../identity/once-secrets.ts'
import {
  newDataKey,
  openClusterSecrets,
  readDataKey,
  sealClusterSecrets,
  writeDataKey,
} from '../identity/sealing.ts'
import type { ClusterSecrets } from '../identity/sealing.ts'
import type { Cluster } from '../store/objects.ts'
import type { UpdateAction } from '../store/transaction.ts'
import type { StoreView } from '../store/view.ts'

const DATA_KEY_FILE = 'data.key'

/** A new cluster's keys, before its cluster object exists. */
export interface NewClusterKeys {
  readonly rootPublicKey: Uint8Array
  readonly sealedSecrets: Uint8Array
  /** Certificate of the first manager, so that it admits joiners from its first moment. */
  readonly certificate: Uint8Array
}

/** Which join secrets to replace. */
export interface Rotation {
  readonly worker: boolean
  readonly manager: boolean
}

/** Reads and changes what is sealed, while this node holds the data key. */
export class ClusterKeys {
  readonly #path: string
  readonly #random: Random
  #dataKey: Uint8Array | undefined
  #opened: { readonly version: number; readonly secrets: ClusterSecrets } | undefined

  private constructor(path: string, random: Random, dataKey: Uint8Array | undefined) {
    this.#path = path
    this.#random = random
    this.#dataKey = dataKey
  }

  /** @throws STORAGE_CORRUPT */
  static async open(directory: string, random: Random): Promise<ClusterKeys> {
    const path = join(directory, DATA_KEY_FILE)
    return new ClusterKeys(path, random, await readDataKey(path))
  }

  get dataKey(): Uint8Array | undefined {
    return this.#dataKey
  }

  /** Makes root key, join secrets and data key of a new cluster, and keeps the data key. */
  async create(peerId: string): Promise<NewClusterKeys> {
    const seed = this.#random.bytes(32)
    const secrets = {
      rootPrivateKey: seed,
      workerSecret: newJoinSecret(this.#random),
      managerSecret: newJoinSecret(this.#random),
      once: [],
    }
    const dataKey = newDataKey(this.#random)
    await this.adopt(dataKey)
    const components = { random: this.#random }
    const root = signingKey(seed)
    return {
      rootPublicKey: root.publicKey,
      certificate: issueCertificate(root, { peerId, role: 'manager', serial: 0 }),
      sealedSecrets: sealClusterSecrets(components, dataKey, secrets),
    }
  }

  /** Keeps a data key that another manager gave. */
  async adopt(dataKey: Uint8Array): Promise<void> {
    await writeDataKey(this.#path, dataKey)
    this.#dataKey = dataKey
  }

  /** Forgets the data key: this node is a worker now. */
  async discard(): Promise<void> {
    await rm(this.#path, { force: true })
    this.#dataKey = undefined
    this.#opened = undefined
  }

  /** @throws NOT_MANAGER without the data key, STORAGE_CORRUPT when the box does not open */
  secrets(store: StoreView): ClusterSecrets {
    const cluster = currentCluster(store)
    if (this.#opened?.version === cluster.meta.version) return this.#opened.secrets
    if (this.#dataKey === undefined) {
      throw new SwarmError('NOT_MANAGER', 'cluster secrets: this node does not hold the data key')
    }
    const secrets = openClusterSecrets(this.#dataKey, cluster.sealedSecrets)
    this.#opened = { version: cluster.meta.version, secrets }
    return secrets
  }

  /** Both join tokens. @throws NOT_MANAGER */
  tokens(store: StoreView): { readonly worker: string; readonly manager: string } {
    const { rootPublicKey } = currentCluster(store)
    const { workerSecret, managerSecret } = this.secrets(store)
    return {
      worker: formatJoinToken(rootPublicKey, workerSecret),
      manager: formatJoinToken(rootPublicKey, managerSecret),
    }
  }

  /** A manager's certificate, signed by the root key. @throws NOT_MANAGER */
  certify(store: StoreView, peerId: string): Uint8Array {
    const root = signingKey(this.secrets(store).rootPrivateKey)
    return issueCertificate(root, { peerId, role: 'manager', serial: store.index })
  }

  /** A one-time token that is good for nothing until {@link onceMade} has taken effect. */
  newOnceToken(store: StoreView): { readonly secret: string; readonly token: string } {
    const secret = newJoinSecret(this.#random)
    return { secret, token: formatJoinToken(currentCluster(store).rootPublicKey, secret) }
  }

  /** The action that adds a one-time secret. @throws NOT_MANAGER, RESOURCE_EXHAUSTED too many */
  onceMade(store: StoreView, made: Pick<OnceSecret, 'role' | 'secret'>): UpdateAction {
    return this.#change(store, ({ once }) => ({ once: withOnceSecret(once, made) }))
  }

  /**
   * The action that uses up a one-time secret. @throws NOT_MANAGER, UNAUTHENTICATED used or void
   */
  onceUsed(store: StoreView, secret: string, peerId: string): UpdateAction {
    return this.#change(store, ({ once }) => ({ once: withUsedOnceSecret(once, secret, peerId) }))
  }

  /** The action that replaces join secrets and voids unused one-time ones. @throws NOT_MANAGER */
  rotation(store: StoreView, which: Rotation): UpdateAction {
    return this.#change(store, ({ once }) => ({
      ...(which.worker ? { workerSecret: newJoinSecret(this.#random) } : {}),
      ...(which.manager ? { managerSecret: newJoinSecret(this.#random) } : {}),
      once: withoutUnused(once, which),
    }))
  }

  /** Refused with OUT_OF_SEQUENCE when somebody else changed the cluster object before. */
  #change(
    store: StoreView,
    change: (secrets: ClusterSecrets) => Partial<ClusterSecrets>,
  ): UpdateAction {
    const { meta, ...cluster } = currentCluster(store)
    const secrets = this.secrets(store)
    const dataKey = this.#dataKey
    assert(dataKey !== undefined, 'secrets were opened without a data key')
    const sealedSecrets = sealClusterSecrets({ random: this.#random }, dataKey, {
      ...secrets,
      ...change(secrets),
    })
    const object = { ...cluster, sealedSecrets }
    return { type: 'update', table: 'cluster', object, version: meta.version }
  }
}

/** The cluster object, which a caught-up member has. @throws UNAVAILABLE */
export function currentCluster(store: StoreView): Cluster {
  const cluster = store.cluster()
  if (cluster === undefined) {
    throw new SwarmError('UNAVAILABLE', 'swarm: this node has not caught up with the cluster yet')
  }
  return cluster
}
