/**
 * Image archives built by hand, for tests: layers, docker-archives, OCI layouts. Not used by the
 * product.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { digestHex, sha256 } from '../digest.ts'
import type { Digest } from '../digest.ts'
import { MEDIA_TYPES } from '../oci-document.ts'
import { hostPlatform } from '../platform.ts'
import type { Platform } from '../platform.ts'
import { tarEnd, tarMember } from '../tar-writer.ts'
import type { TarMember } from '../tar-writer.ts'

/** One member of a tar: a header and its content. */
export type Member = TarMember & { readonly content?: Uint8Array | string }

/** A blob with what a descriptor says of it. */
export interface Blob {
  readonly mediaType: string
  readonly digest: Digest
  readonly size: number
}

/** A directory that is deleted when it goes out of scope. */
export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string
}

/** Makes a directory under the system's temporary one. */
export async function temporaryDirectory(): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), 'skein-image-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** A tar of `members`. */
export function tarOf(members: readonly Member[]): Buffer {
  const parts = members.map(({ content = '', ...member }) =>
    tarMember(member, typeof content === 'string' ? Buffer.from(content) : content),
  )
  return Buffer.concat([...parts, tarEnd()])
}

/**
 * A stream of `bytes`.
 * @yields pieces of it
 */
export async function* stream(bytes: Uint8Array, piece = 65_536): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += piece) {
    yield await Promise.resolve(bytes.subarray(offset, offset + piece))
  }
}

/** All that an iterable yields. */
export async function collected<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

/** An image config for these uncompressed layers. */
export function configOf(
  diffIds: readonly Digest[],
  extra: { readonly platform?: Platform; readonly config?: object } = {},
): Buffer {
  return json({
    created: '2026-01-02T03:04:05Z',
    ...(extra.platform ?? hostPlatform()),
    config: extra.config ?? { Cmd: ['/bin/true'], Env: ['A=b'], Labels: { role: 'test' } },
    rootfs: { type: 'layers', diff_ids: diffIds },
  })
}

/** What `docker save` of Docker < 25 writes: `manifest.json`, a config, `<id>/layer.tar`. */
export function dockerArchive(
  tags: readonly string[] | null,
  layers: readonly Uint8Array[],
  options: { readonly diffIds?: readonly Digest[]; readonly config?: object } = {},
): Buffer {
  const { diffIds = layers.map(sha256), ...extra } = options
  const config = configOf(diffIds, extra)
  const name = `${digestHex(sha256(config))}.json`
  const paths = layers.map((_, index) => `${'0123456789abcdef'.charAt(index).repeat(64)}/layer.tar`)
  const manifest = json([{ Config: name, RepoTags: tags, Layers: paths }])
  return tarOf([
    ...layers.map((content, index): Member => ({ path: paths[index] ?? '', content })),
    { path: name, content: config },
    { path: 'manifest.json', content: manifest },
  ])
}

/** Collects the blobs of an OCI layout. */
export class Layout {
  readonly #blobs = new Map<Digest, Uint8Array>()

  add(mediaType: string, content: Uint8Array): Blob {
    const digest = sha256(content)
    this.#blobs.set(digest, content)
    return { mediaType, digest, size: content.length }
  }

  /** Leaves a blob out, as a layout that holds one platform of several does. */
  drop(digest: Digest): void {
    this.#blobs.delete(digest)
  }

  /** Adds an image of compressed layers; returns its manifest's descriptor. */
  image(
    layers: readonly {
      readonly blob: Uint8Array
      readonly tar: Uint8Array
      readonly type: string
    }[],
    extra: { readonly platform?: Platform; readonly config?: object } = {},
  ): Blob {
    const diffIds = layers.map(({ tar }) => sha256(tar))
    const config = this.add(MEDIA_TYPES.config, configOf(diffIds, extra))
    const entries = layers.map(({ blob, type }) => this.add(type, blob))
    return this.manifest({ schemaVersion: 2, config, layers: entries })
  }

  /** Adds any document as a manifest. */
  manifest(document: object): Blob {
    const mediaType = MEDIA_TYPES.manifest
    return this.add(mediaType, json({ mediaType, ...document }))
  }

  /** Adds an index over `manifests`. */
  index(manifests: readonly object[]): Blob {
    const document = { schemaVersion: 2, mediaType: MEDIA_TYPES.index, manifests }
    return this.add(MEDIA_TYPES.index, json(document))
  }

  /** The whole layout as a tar. */
  tar(manifests: readonly object[], extra: readonly Member[] = []): Buffer {
    return tarOf([
      { path: 'oci-layout', content: json({ imageLayoutVersion: '1.0.0' }) },
      { path: 'index.json', content: json({ schemaVersion: 2, manifests }) },
      ...[...this.#blobs].map(([digest, content]): Member => {
        return { path: `blobs/sha256/${digestHex(digest)}`, content }
      }),
      ...extra,
    ])
  }
}

/** JSON as bytes. */
export function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
