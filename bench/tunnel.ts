/**
 * How much a relay costs: the same bytes from one member to another over a wire of their own and
 * through a third member, each in a process of its own, in turn. Prints one JSON line.
 *
 *   node bench/tunnel.ts [MiB a round, default 64] [rounds, default 5]
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { MeshHost } from '../src/mesh/mesh.ts'
import type { Member } from '../src/mesh/ports.ts'
import { loopbackMesh, until } from '../src/mesh/testing/swarm.ts'

const SCRIPT = fileURLToPath(import.meta.url)
const MIB = 1024 * 1024
/** Nobody listens there. */
const NOWHERE = '/ip4/127.0.0.9/tcp/9'

interface CpuMs {
  readonly cpuMs: number
}

interface Round {
  readonly mibPerSecond: number
  readonly cpuMsPerMib: number
  readonly roundTripMs: number
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** A member in a process of its own: takes bytes, answers, and does what its parent says. */
async function serve(): Promise<void> {
  const mesh = await loopbackMesh()
  mesh.handle('echo', (body) => Promise.resolve(body))
  mesh.handleStream('take', async (_header, stream) => {
    let bytes = 0
    for await (const chunk of stream.source) bytes += chunk.length
    await stream.write(Buffer.from(String(bytes)))
  })
  process.on('message', (members: readonly Member[] | 'cpu') => {
    if (members === 'cpu') process.send?.({ cpuMs: cpuMs() })
    else mesh.setMembers(members)
  })
  process.on('disconnect', () => process.exit(0))
  process.send?.(mesh.self)
}

/** The three of one arrangement, this process the first of them. */
class Trio implements AsyncDisposable {
  readonly mesh: MeshHost
  readonly children: readonly ChildProcess[]
  readonly target: string

  private constructor(mesh: MeshHost, children: readonly ChildProcess[], target: string) {
    this.mesh = mesh
    this.children = children
    this.target = target
  }

  static async start(relayed: boolean): Promise<Trio> {
    const mesh = await loopbackMesh()
    const children = [fork(SCRIPT, ['member']), fork(SCRIPT, ['member'])]
    const selves = await Promise.all(
      children.map(async (child) => (await once(child, 'message'))[0] as Member),
    )
    const [relay, target] = selves
    if (relay === undefined || target === undefined) throw new Error('two members are missing')
    const hidden = (member: Member): Member =>
      relayed ? { ...member, addresses: [NOWHERE] } : member
    children[0]?.send([mesh.self, target])
    children[1]?.send([hidden(mesh.self), relay])
    mesh.setMembers([relay, hidden(target)])
    const via = relayed ? relay.nodeId : undefined
    await until(() =>
      mesh.peers().some((one) => one.nodeId === target.nodeId && one.reachable && one.via === via),
    )
    return new Trio(mesh, children, target.nodeId)
  }

  async round(mib: number): Promise<Round> {
    const startCpuMs = await this.#cpuMs()
    const startMs = performance.now()
    const stream = await this.mesh.openStream(this.target, 'take', null)
    const piece = Buffer.alloc(MIB, 7)
    for (let index = 0; index < mib; index += 1) await stream.write(piece)
    await stream.end()
    let answer = ''
    for await (const chunk of stream.source) answer += Buffer.from(chunk).toString()
    if (Number(answer) !== mib * MIB) throw new Error(`${answer} bytes arrived`)
    const seconds = (performance.now() - startMs) / 1_000
    const usedMs = (await this.#cpuMs()) - startCpuMs
    const roundTripMs = await this.#roundTripMs()
    return { mibPerSecond: mib / seconds, cpuMsPerMib: usedMs / mib, roundTripMs }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.mesh.close()
    for (const child of this.children) child.disconnect()
  }

  async #roundTripMs(): Promise<number> {
    const times: number[] = []
    for (let index = 0; index < 100; index += 1) {
      const startMs = performance.now()
      await this.mesh.request(this.target, 'echo', index)
      times.push(performance.now() - startMs)
    }
    return median(times)
  }

  async #cpuMs(): Promise<number> {
    const others = await Promise.all(
      this.children.map(async (child) => {
        const answer = once(child, 'message')
        child.send('cpu')
        return ((await answer)[0] as CpuMs).cpuMs
      }),
    )
    return others.reduce((sum, one) => sum + one, cpuMs())
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

function medians(rounds: readonly Round[]): Round {
  return {
    mibPerSecond: median(rounds.map((round) => round.mibPerSecond)),
    cpuMsPerMib: median(rounds.map((round) => round.cpuMsPerMib)),
    roundTripMs: median(rounds.map((round) => round.roundTripMs)),
  }
}

async function compare(mib: number, rounds: number): Promise<void> {
  await using direct = await Trio.start(false)
  await using relayed = await Trio.start(true)
  const results: { direct: Round[]; relayed: Round[] } = { direct: [], relayed: [] }
  await direct.round(mib)
  await relayed.round(mib)
  for (let index = 0; index < rounds; index += 1) {
    results.direct.push(await direct.round(mib))
    results.relayed.push(await relayed.round(mib))
  }
  const [one, other] = [medians(results.direct), medians(results.relayed)]
  const ratios = {
    throughput: other.mibPerSecond / one.mibPerSecond,
    cpu: other.cpuMsPerMib / one.cpuMsPerMib,
    roundTrip: other.roundTripMs / one.roundTripMs,
  }
  process.stdout.write(`${JSON.stringify({ direct: one, relayed: other, ratios })}\n`)
}

if (process.argv[2] === 'member') await serve()
else await compare(Number(process.argv[2] ?? 64), Number(process.argv[3] ?? 5))
