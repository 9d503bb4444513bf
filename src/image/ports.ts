/**
 * What the rest of Skein needs of images. The agent asks for an image to be ready on this node;
 * where its bytes come from (loaded here, or fetched from any peer that has them) is `image/`'s
 * business.
 */

/** An image's HEALTHCHECK in Docker's shape, as it was written; durations in nanoseconds. */
export interface ImageHealthcheck {
  readonly Test?: readonly string[]
  readonly Interval?: number
  readonly Timeout?: number
  readonly Retries?: number
  readonly StartPeriod?: number
  readonly StartInterval?: number
}

/** What the container needs to know of its image. */
export interface ReadyImage {
  /** Digest of the manifest, `sha256:…`. */
  readonly digest: string
  /** Unpacked layer directories, lowest first; read-only, shared by all containers. */
  readonly layerDirectories: readonly string[]
  /** The image's own defaults (OCI image config, `config` member). */
  readonly config: {
    readonly entrypoint: readonly string[]
    readonly command: readonly string[]
    readonly env: readonly string[]
    readonly workingDirectory: string
    /** `uid`, `user`, `uid:gid` …; empty = root. */
    readonly user: string
    readonly stopSignal?: string
    readonly labels: Readonly<Record<string, string>>
    readonly volumes: readonly string[]
    readonly exposedPorts: readonly string[]
    readonly healthcheck?: ImageHealthcheck
    /** The image's SHELL, before the line of a health check; absent: `/bin/sh -c`. */
    readonly shell?: readonly string[]
  }
}

/** One image in a listing. */
export interface ImageSummary {
  /** Digest of the config: Docker's image id. */
  readonly id: string
  /** Digest of the manifest. */
  readonly digest: string
  /** `web:1`, normalised to the short form that Docker prints. */
  readonly tags: readonly string[]
  readonly sizeBytes: number
  readonly createdAt: string
  readonly labels: Readonly<Record<string, string>>
  readonly platform: {
    readonly os: string
    readonly architecture: string
    readonly variant?: string
  }
}

/** What the agent and the API use. Implemented by `image/image-store.ts`. */
export interface Images {
  /**
   * Makes the image ready here: resolves `reference` (`web:1`, `web@sha256:…`, `web:1@sha256:…`, an
   * id or a unique prefix of one), fetches missing blobs from peers, checks digests, unpacks
   * layers. Concurrent calls for one image share the work. Idempotent.
   * @throws NOT_FOUND (no node that can be reached has it), UNAVAILABLE, STORAGE_FULL,
   *   INVALID_ARGUMENT
   */
  ensure(reference: string, options?: { readonly signal?: AbortSignal }): Promise<ReadyImage>
  /** Resolves a reference to a summary if this node has it. */
  find(reference: string): Promise<ImageSummary | undefined>
  /** Asks peers too; the content need not be here. */
  resolve(
    reference: string,
    options?: { readonly signal?: AbortSignal },
  ): Promise<
    | {
        readonly digest: string
        readonly platforms: readonly { readonly os: string; readonly architecture: string }[]
      }
    | undefined
  >
  list(): Promise<ImageSummary[]>
  /**
   * Reads a docker-archive or OCI layout tar (plain, gzip or zstd). Yields one line per loaded
   * image, in Docker's words (`Loaded image: web:1`).
   */
  load(
    tar: AsyncIterable<Uint8Array>,
    options?: { readonly signal?: AbortSignal },
  ): AsyncIterable<string>
  /**
   * Removes a tag, and the image with its last tag. Returns Docker's `Untagged`/`Deleted` lines.
   */
  remove(
    reference: string,
    options?: { readonly force?: boolean; readonly inUse?: ReadonlySet<string> },
  ): Promise<{ readonly untagged: readonly string[]; readonly deleted: readonly string[] }>
}

/** How `image/` reaches other nodes; `node.ts` builds it from the mesh. */
export interface ImagePeers {
  /** Node ids that can be reached now. */
  peers(): readonly string[]
  /** A small question to one peer. */
  request(
    nodeId: string,
    method: string,
    body: unknown,
    options: { readonly signal: AbortSignal },
  ): Promise<unknown>
  /** Bytes from one peer, credit-controlled. */
  download(
    nodeId: string,
    method: string,
    body: unknown,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<Uint8Array>
  /** Answers what other nodes ask by `request`. */
  handle(method: string, handler: (body: unknown, nodeId: string) => Promise<unknown>): void
  /** Answers what other nodes ask by `download`. */
  handleDownload(
    method: string,
    handler: (body: unknown, nodeId: string) => AsyncIterable<Uint8Array>,
  ): void
}
