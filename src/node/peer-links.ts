/** How the load balancer sees other nodes: the mesh's links, as `network/` names their states. */
import type { Mesh, RequestOptions } from '../mesh/ports.ts'
import type { AskedPeers } from '../network/drain/peer-lanes.ts'
import { PROGRAMMED_METHOD } from '../network/drain/question.ts'
import type { PeerLinks } from '../network/network.ts'
import type { PeerRelays } from '../network/plane/plane-reconciler.ts'
import type { LinkState } from '../network/wanted-servers.ts'

/** Links of a mesh. */
export class MeshPeerLinks implements PeerLinks, PeerRelays, AskedPeers {
  readonly #mesh: Pick<Mesh, 'peers' | 'onPeer' | 'request'>

  constructor(mesh: Pick<Mesh, 'peers' | 'onPeer' | 'request'>) {
    this.#mesh = mesh
  }

  linked(): readonly string[] {
    return this.#mesh.peers().flatMap(({ nodeId, reachable }) => (reachable ? [nodeId] : []))
  }

  ask(nodeId: string, body: unknown, options: RequestOptions): Promise<unknown> {
    return this.#mesh.request(nodeId, PROGRAMMED_METHOD, body, options)
  }

  /** `none` from the moment at which the link is held for dead, and of who is no member. */
  linkTo(nodeId: string): LinkState {
    const peer = this.#mesh.peers().find((one) => one.nodeId === nodeId)
    if (peer?.reachable !== true) return 'none'
    return peer.via === undefined ? 'direct' : 'relayed'
  }

  relayTo(nodeId: string): string | undefined {
    return this.#mesh.peers().find((one) => one.nodeId === nodeId)?.via
  }

  onChange(listener: () => void): () => void {
    return this.#mesh.onPeer(() => listener())
  }
}
