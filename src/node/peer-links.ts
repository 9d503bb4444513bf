/** How the load balancer sees other nodes: the mesh's links, as `network/` names their states. */
import type { Mesh } from '../mesh/ports.ts'
import type { PeerLinks } from '../network/network.ts'
import type { PeerRelays } from '../network/plane/plane-reconciler.ts'
import type { LinkState } from '../network/wanted-servers.ts'

/** Links of a mesh. */
export class MeshPeerLinks implements PeerLinks, PeerRelays {
  readonly #mesh: Pick<Mesh, 'peers' | 'onPeer'>

  constructor(mesh: Pick<Mesh, 'peers' | 'onPeer'>) {
    this.#mesh = mesh
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
