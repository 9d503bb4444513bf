/**
 * Image peers in memory, with faults: nodes that fail, cut downloads short, corrupt bytes, or are
 * gone. For tests.
 */
import { once } from 'node:events'
import { assert } from '../../base/assert.ts'
import { SwarmError } from '../../base/errors.ts'
import type { ImagePeers } from '../ports.ts'

type RequestHandler = Parameters<ImagePeers['handle']>[1]
type DownloadHandler = Parameters<ImagePeers['handleDownload']>[1]

interface Node {
  readonly requests: Map<string, RequestHandler>
  readonly downloads: Map<string, DownloadHandler>
  isConnected: boolean
  failure?: Error
  /** Bytes after which each download breaks. */
  cutAfterBytes: number
  isCorrupting: boolean
  isStalling: boolean
  isHanging: boolean
}

/** One download as it ran. */
export interface Download {
  readonly from: string
  readonly to: string
  bytes: number
}

/** All nodes, fully connected. */
export class PeerNetwork {
  /** All downloads so far. */
  readonly downloads: Download[] = []
  readonly #nodes = new Map<string, Node>()

  /** The view of one node; made when first asked for. */
  node(name: string): ImagePeers {
    const node: Node = this.#nodes.get(name) ?? {
      requests: new Map(),
      downloads: new Map(),
      isConnected: true,
      cutAfterBytes: Infinity,
      isCorrupting: false,
      isStalling: false,
      isHanging: false,
    }
    this.#nodes.set(name, node)
    return {
      peers: () => this.#peersOf(name),
      request: async (to, method, body, { signal }) => {
        signal.throwIfAborted()
        if (this.#reach(to).isHanging) await aborted(signal)
        const handler = this.#reach(to).requests.get(method)
        assert(handler !== undefined, `no handler for ${method}`)
        return structuredClone(await handler(structuredClone(body), name))
      },
      download: (to, method, body, { signal }) =>
        this.#download({ to, name, method, body }, signal),
      handle: (method, handler) => void node.requests.set(method, handler),
      handleDownload: (method, handler) => void node.downloads.set(method, handler),
    }
  }

  disconnect(name: string): void {
    this.#at(name).isConnected = false
  }

  /** Every question to `name` fails. */
  fail(name: string, failure: Error): void {
    this.#at(name).failure = failure
  }

  /** Every download from `name` breaks after so many bytes. */
  cutAfter(name: string, bytes: number): void {
    this.#at(name).cutAfterBytes = bytes
  }

  /** Every download from `name` has wrong bytes. */
  corrupt(name: string): void {
    this.#at(name).isCorrupting = true
  }

  /** Every download from `name` sends nothing until it is withdrawn. */
  stall(name: string): void {
    this.#at(name).isStalling = true
  }

  /** No question to `name` is answered. */
  hang(name: string): void {
    this.#at(name).isHanging = true
  }

  async *#download(
    call: {
      readonly to: string
      readonly name: string
      readonly method: string
      readonly body: unknown
    },
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array, void> {
    const node = this.#reach(call.to)
    const handler = node.downloads.get(call.method)
    assert(handler !== undefined, `no handler for ${call.method}`)
    const download: Download = { from: call.to, to: call.name, bytes: 0 }
    this.downloads.push(download)
    if (node.isStalling) await aborted(signal)
    for await (const chunk of handler(structuredClone(call.body), call.name)) {
      for (let offset = 0; offset < chunk.length; offset += 16_384) {
        signal.throwIfAborted()
        const piece = Buffer.from(chunk.subarray(offset, offset + 16_384))
        if (download.bytes + piece.length > node.cutAfterBytes) {
          throw new SwarmError('UNAVAILABLE', `peer ${call.to}: connection lost`)
        }
        if (node.isCorrupting) piece[0] = (piece[0] ?? 0) ^ 0xff
        download.bytes += piece.length
        yield piece
      }
    }
  }

  #reach(name: string): Node {
    const node = this.#at(name)
    if (!node.isConnected) throw new SwarmError('UNAVAILABLE', `peer ${name}: gone`)
    if (node.failure !== undefined) throw node.failure
    return node
  }

  #peersOf(name: string): string[] {
    return [...this.#nodes]
      .filter(([other, node]) => other !== name && node.isConnected && node.requests.size > 0)
      .map(([other]) => other)
  }

  #at(name: string): Node {
    const node = this.#nodes.get(name)
    assert(node !== undefined, `no node ${name}`)
    return node
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await once(signal, 'abort')
  signal.throwIfAborted()
}
