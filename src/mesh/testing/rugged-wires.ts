/**
 * Meshes whose every pair is joined by wires of its own, which a test cuts, silences and mends.
 * Each node dials each other one through a small TCP forwarder on 127.x.y.z and knows no other
 * address, so what happens to the forwarder is what a firewall, a cable or a route would do.
 */
import { createServer, connect, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import type { MeshOptions, MeshHost } from '../mesh.ts'
import { loopbackMesh } from './swarm.ts'

type Pair = readonly [number, number]

/** How a wire treats what goes through it. */
type WireState = 'whole' | 'cut' | 'silent'

class Forwarder {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly address: string
  #state: WireState = 'whole'

  private constructor(server: Server, host: string, target: { host: string; port: number }) {
    this.#server = server
    const address = server.address()
    this.address = `/ip4/${host}/tcp/${typeof address === 'object' ? (address?.port ?? 0) : 0}`
    server.on('connection', (socket) => this.#onConnection(socket, target))
  }

  static async start(host: string, target: { host: string; port: number }): Promise<Forwarder> {
    const server = createServer()
    server.listen(0, host)
    await once(server, 'listening')
    return new Forwarder(server, host, target)
  }

  set(state: WireState): void {
    this.#state = state
    for (const socket of this.#sockets) {
      if (state === 'silent') socket.pause()
      else socket.destroy()
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
  }

  #onConnection(socket: Socket, target: { host: string; port: number }): void {
    this.#keep(socket)
    if (this.#state === 'cut') socket.destroy()
    if (this.#state !== 'whole') return
    const onward = connect(target)
    this.#keep(onward)
    socket.pipe(onward)
    onward.pipe(socket)
    socket.on('close', () => onward.destroy())
    onward.on('close', () => socket.destroy())
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#sockets.delete(socket))
  }
}

/** Meshes and the wires between them. */
export class RuggedWires implements AsyncDisposable {
  readonly meshes: readonly MeshHost[]
  /** By `from-to`, indexes of meshes. */
  readonly #wires: ReadonlyMap<string, Forwarder>

  private constructor(meshes: readonly MeshHost[], wires: ReadonlyMap<string, Forwarder>) {
    this.meshes = meshes
    this.#wires = wires
  }

  /**
   * `size` meshes, each with the options of its index; the pairs in `cut` have no wire that works.
   * They are not members yet.
   */
  static async make(
    size: number,
    cut: readonly Pair[] = [],
    options: (index: number) => Partial<MeshOptions> = () => ({}),
  ): Promise<RuggedWires> {
    const meshes: MeshHost[] = []
    for (let index = 0; index < size; index += 1) {
      const listenAddresses = [`/ip4/127.70.0.${index + 1}/tcp/0`]
      meshes.push(await loopbackMesh({ ...options(index), listenAddresses }))
    }
    const wires = new Map<string, Forwarder>()
    for (const from of meshes.keys()) {
      for (const [to, mesh] of meshes.entries()) {
        if (from === to) continue
        const port = Number(mesh.self.addresses[0]?.split('/').at(-1))
        const target = { host: `127.70.0.${to + 1}`, port }
        wires.set(`${from}-${to}`, await Forwarder.start(`127.70.${from + 1}.${to + 1}`, target))
      }
    }
    const net = new RuggedWires(meshes, wires)
    for (const pair of cut) net.set(pair, 'cut')
    return net
  }

  /** Makes all of them members of each other. */
  join(): void {
    for (const [from, mesh] of this.meshes.entries()) {
      const others = this.meshes.flatMap((other, to) => {
        const address = this.#wires.get(`${from}-${to}`)?.address
        return address === undefined ? [] : [{ ...other.self, addresses: [address] }]
      })
      mesh.setMembers(others)
    }
  }

  /** Both wires of a pair. */
  set([one, other]: Pair, state: WireState): void {
    this.#wires.get(`${one}-${other}`)?.set(state)
    this.#wires.get(`${other}-${one}`)?.set(state)
  }

  /** All wires of one node. */
  setNode(index: number, state: WireState): void {
    for (const other of this.meshes.keys()) if (other !== index) this.set([index, other], state)
  }

  mesh(index: number): MeshHost {
    const mesh = this.meshes[index]
    if (mesh === undefined) throw new Error(`no mesh ${index}`)
    return mesh
  }

  id(index: number): string {
    return this.mesh(index).self.nodeId
  }

  /** How one sees another: `direct`, the index of the member through which it goes, or `none`. */
  way(from: number, to: number): 'direct' | 'none' | number {
    const peer = this.mesh(from)
      .peers()
      .find(({ nodeId }) => nodeId === this.id(to))
    if (peer?.reachable !== true) return 'none'
    return peer.via === undefined
      ? 'direct'
      : this.meshes.findIndex((mesh) => mesh.self.nodeId === peer.via)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.meshes.map((mesh) => mesh.close()))
    for (const wire of this.#wires.values()) wire.close()
  }
}
