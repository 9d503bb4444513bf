/**
 * The unmodified docker CLI drives a real Skein swarm over the same socket: every command of a swarm's
 * life, as a user types it, with what docker's own users expect to read.
 */
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { until } from './harness/daemon.ts'
import type { Daemon } from './harness/daemon.ts'
import { docker, hasDocker } from './harness/docker.ts'
import { IMAGE, TestSwarm, demoImage } from './harness/swarm.ts'

const found = await hasDocker()
const dockerTest = found ? test.serial : test.serial.skip
if (!found) process.stderr.write('skipped: docker-cli.test.ts needs the docker CLI on PATH\n')

async function dockerOk(
  t: ExecutionContext,
  daemon: Daemon,
  ...arguments_: readonly string[]
): Promise<string> {
  const result = await docker(daemon, ...arguments_)
  t.is(result.code, 0, `docker ${arguments_.join(' ')}\n${result.stdout}${result.stderr}`)
  return result.stdout.trim()
}

dockerTest('docker forms a swarm, runs a service, and takes all of it down', async (t) => {
  await using swarm = new TestSwarm(2, 31)
  await swarm.start()
  const [first, second] = [swarm.node(0), swarm.node(1)]
  const on = (daemon: Daemon, ...arguments_: string[]): Promise<string> =>
    dockerOk(t, daemon, ...arguments_)

  t.regex(await on(first, 'version'), /API version:/)
  t.regex(await on(first, 'info'), /Swarm: inactive/)
  t.regex((await docker(first, 'node', 'ls')).stderr, /This node is not a swarm manager/)

  t.regex(
    await on(first, 'swarm', 'init'),
    /Swarm initialized: current node \(\w{25}\) is now a manager/,
  )
  const token = await on(first, 'swarm', 'join-token', '-q', 'worker')
  t.regex(token, /^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$/)
  t.regex(
    await on(second, 'swarm', 'join', '--token', token, first.options.listenAddress),
    /This node joined a swarm as a worker/,
  )
  t.regex(await on(first, 'info'), /Swarm: active/)
  t.regex((await docker(second, 'node', 'ls')).stderr, /This node is not a swarm manager/)

  await until('two ready nodes', async () => {
    const list = (await docker(first, 'node', 'ls', '--format', '{{.Status}}')).stdout
    return list.match(/Ready/g)?.length === 2
  })
  t.regex(await on(first, 'node', 'ls'), /Leader/)
  t.regex(await on(first, 'node', 'inspect', 'self', '--pretty'), /Raft Status|Manager Status/)
  const worker = await on(first, 'node', 'ls', '-q', '--filter', 'role=worker')
  t.regex(await on(first, 'node', 'promote', worker), /promoted to a manager/)
  await until('the promoted node to accept commands', async () => {
    return (await docker(second, 'node', 'ls')).code === 0
  })
  t.regex(await on(first, 'node', 'demote', worker), /demoted/)
  await until('the demoted node to refuse them', async () => {
    return (await docker(second, 'node', 'ls')).code !== 0
  })

  t.regex(await on(first, 'load', '-i', await demoImage()), /Loaded image: hello:1/)
  t.regex(await on(first, 'images'), /hello\s+1/)
  const created = await on(
    first,
    ...['service', 'create', '--name', 'web', '--replicas', '2', '--publish', '8031:80', IMAGE],
  )
  t.regex(created, /\w{25}/)
  t.regex(await on(first, 'service', 'ls'), /web\s+replicated\s+2\/2\s+hello:1\s+\*:8031->80\/tcp/)
  t.regex(await on(first, 'service', 'ps', 'web'), /web\.1[\s\S]*Running/)
  t.regex(await on(first, 'service', 'inspect', '--pretty', 'web'), /Replicas:\s+2/)
  t.regex(await on(first, 'node', 'ps', 'self'), /web\.\d/)
  t.regex(await on(first, 'service', 'scale', 'web=3'), /converged/)
  t.regex((await docker(first, 'service', 'scale', 'none=3')).stderr, /not found/)
  await on(first, 'node', 'update', '--availability', 'drain', worker)
  await until('the drained node to be empty', async () => {
    const filter = ['--filter', 'desired-state=running', '-q']
    return (await docker(first, 'node', 'ps', worker, ...filter)).stdout.trim() === ''
  })
  t.is(await on(first, 'service', 'rm', 'web'), 'web')
  t.regex((await docker(first, 'node', 'rm', worker)).stderr, /not down/)
  await on(second, 'swarm', 'leave')
  await until('the node that left to be down', async () => {
    return (await docker(first, 'node', 'rm', worker)).code === 0
  })
  t.regex((await docker(first, 'swarm', 'leave')).stderr, /participating as a manager/)
  t.regex(await on(first, 'swarm', 'leave', '--force'), /Node left the swarm/)
  t.regex(await on(first, 'info'), /Swarm: inactive/)
})
