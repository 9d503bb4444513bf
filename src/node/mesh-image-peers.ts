/** How `image/` reaches other nodes: its port on top of whatever mesh this node has now, if any. */
import { SwarmError } from '../base/errors.ts'
import type { ImagePeers } from '../image/ports.ts'
import type { Mesh } from '../mesh/ports.ts'

type RequestHandler = Parameters<ImagePeers['handle']>[1]
type DownloadHandler = Parameters<ImagePeers['handleDownload']>[1]

/** Peers of the image store; empty while this node is in no swarm. */
export class MeshImagePeers implements ImagePeers {
  readonly #requests = new Map<string, RequestHandler>()
  readonly #downloads = new Map<string, DownloadHandler>()
  #mesh: Mesh | undefined

  /** From now on peers are those of `mesh`. */
  attach(mesh: Mesh): void {
    this.#mesh = mesh
    for (const [method, handler] of this.#requests) mesh.handle(method, handler)
    for (const [method, handler] of this.#downloads) serveDownload(mesh, method, handler)
  }

  detach(): void {
    this.#mesh = undefined
  }

  peers(): readonly string[] {
    const peers = this.#mesh?.peers() ?? []
    return peers.filter((peer) => peer.reachable).map((peer) => peer.nodeId)
  }

  request(
    nodeId: string,
    method: string,
    body: unknown,
    options: { readonly signal: AbortSignal },
  ): Promise<unknown> {
    return this.#required().request(nodeId, method, body, options)
  }

  async *download(
    nodeId: string,
    method: string,
    body: unknown,
    options: { readonly signal: AbortSignal },
  ): AsyncIterable<Uint8Array> {
    const stream = await this.#required().openStream(nodeId, method, body, options)
    const onAbort = (): void => stream.abort(new Error('download: withdrawn'))
    options.signal.addEventListener('abort', onAbort, { once: true })
    let complete = false
    try {
      await stream.end()
      yield* stream.source
      complete = true
    } finally {
      options.signal.removeEventListener('abort', onAbort)
      if (!complete) stream.abort(new Error('download: not read to its end'))
    }
  }

  handle(method: string, handler: RequestHandler): void {
    this.#requests.set(method, handler)
    this.#mesh?.handle(method, handler)
  }

  handleDownload(method: string, handler: DownloadHandler): void {
    this.#downloads.set(method, handler)
    if (this.#mesh !== undefined) serveDownload(this.#mesh, method, handler)
  }

  #required(): Mesh {
    if (this.#mesh === undefined) {
      throw new SwarmError(
        'NOT_SWARM_MEMBER',
        'image: this node is in no swarm, so it has no peers',
      )
    }
    return this.#mesh
  }
}

/**
 * The mesh resets the stream when the handler throws, so a cut download is never taken for whole.
 */
function serveDownload(mesh: Mesh, method: string, handler: DownloadHandler): void {
  mesh.handleStream(method, async (header, stream) => {
    for await (const chunk of handler(header, stream.nodeId)) await stream.write(chunk)
    await stream.end()
  })
}
