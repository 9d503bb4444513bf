/**
 * Shows the main job on one machine: three nodes as three processes, a cluster, one service with three
 * replicas behind a published port, the leader killed and everything back. Every step is a command
 * that the reader can type; the script prints it before it runs it. `--keep` leaves the swarm up.
 *
 * What it starts lives under one directory in the temporary directory and on 127.0.0.1–127.0.0.3;
 * it ends exactly that, and leaves no process, mount or interface behind.
 */
import { mkdir, rm, stat } from 'node:fs/promises'
import { get } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Daemon, SKEIN, run, skein, skeinOk, until } from '../cluster-tests/harness/daemon.ts'
import type { CommandResult } from '../cluster-tests/harness/daemon.ts'
import { makeDemoImage } from './make-image.ts'
import { Progress } from './progress.ts'

const DIRECTORY = join(tmpdir(), 'skein-quickstart')
const HOSTS = ['127.0.0.1', '127.0.0.2', '127.0.0.3']
const SWARM_PORT = 2377
const IMAGE = 'hello:1'

/** Longest wait for one step, and how often a node is asked for an answer of its replicas. */
const STEP_TIMEOUT_MS = 60_000
const REQUESTS_PER_NODE = 6

interface Choices {
  readonly keep: boolean
  readonly port: number
}

function readChoices(): Choices | undefined {
  const { values } = parseArgs({
    options: {
      keep: { type: 'boolean', default: false },
      stop: { type: 'boolean', default: false },
      port: { type: 'string', default: '8080' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    process.stdout.write(
      'Usage: npm run quickstart -- [OPTIONS]\n\n' +
        'Starts three nodes, a service with three replicas, and kills the leader.\n\n' +
        '  --keep        leave the swarm running afterwards\n' +
        '  --stop        end a swarm that was kept, and remove what it left\n' +
        '  --port PORT   published port (default 8080)\n',
    )
    return undefined
  }
  return { keep: values.keep, port: values.stop ? 0 : Number(values.port) }
}

const progress = new Progress(process.stdout)

/** Prints a command as the reader would type it, and runs it. */
async function show(daemon: Daemon, ...arguments_: readonly string[]): Promise<string> {
  progress.command(`skein -H ${daemon.host} ${arguments_.map(quoted).join(' ')}`)
  return skeinOk(daemon, ...arguments_)
}

function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text}'`
}

async function assertPortsFree(port: number): Promise<void> {
  for (const host of HOSTS) {
    for (const wanted of [SWARM_PORT, port]) await assertFree(host, wanted)
  }
}

function assertFree(host: string, port: number): Promise<void> {
  return new Promise((done, fail) => {
    const server = createServer()
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const hint =
        port === SWARM_PORT
          ? 'is a kept quickstart still running? `npm run quickstart -- --stop` ends it'
          : 'choose another with `npm run quickstart -- --port PORT`'
      fail(new Error(`${host}:${port} cannot be used (${cause.code ?? cause.message}); ${hint}`))
    })
    server.listen(port, host, () => server.close(() => done()))
  })
}

/** The body of one HTTP GET on a connection of its own. */
function fetchOnce(host: string, port: number): Promise<string> {
  return new Promise((done, fail) => {
    const call = get({ host, port, agent: false, timeout: 5_000 }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (body += chunk))
      response.on('end', () => done(body.trim()))
      response.on('error', fail)
    })
    call.on('timeout', () => call.destroy(new Error(`${host}:${port}: no answer within 5 s`)))
    call.on('error', fail)
  })
}

async function startNodes(): Promise<Daemon[]> {
  const daemons = HOSTS.map(
    (host, index) =>
      new Daemon({
        name: `node-${index + 1}`,
        directory: DIRECTORY,
        listenAddress: `${host}:${SWARM_PORT}`,
      }),
  )
  for (const daemon of daemons) {
    progress.command(
      `skein daemon --data-dir ${daemon.dataDirectory} --listen-addr ${daemon.options.listenAddress} --hostname ${daemon.options.name} &`,
    )
  }
  await Promise.all(daemons.map((daemon) => daemon.start()))
  return daemons
}

async function formCluster([first, ...others]: Daemon[]): Promise<void> {
  if (first === undefined) return
  await show(first, 'swarm', 'init')
  const token = await show(first, 'swarm', 'join-token', '--quiet', 'manager')
  for (const daemon of others) {
    await show(daemon, 'swarm', 'join', '--token', token, `${first.host}:${SWARM_PORT}`)
  }
  progress.output(await show(first, 'node', 'ls'))
}

async function createService(first: Daemon, port: number): Promise<void> {
  const tar = join(DIRECTORY, 'hello.tar')
  await makeDemoImage({ output: tar, tag: IMAGE })
  progress.output(await show(first, 'image', 'load', '--input', tar))
  await show(
    first,
    ...['service', 'create', '--name', 'web', '--replicas', '3', '--detach'],
    ...['--publish', `${port}:80`, '--restart-delay', '1s'],
    ...['--env', 'NODE={{.Node.Hostname}}', IMAGE],
  )
  await untilRunning(first, 3)
  progress.output(await show(first, 'service', 'ps', 'web'))
}

/** Waits until the service has `replicas` tasks running, as `daemon` sees it. */
function untilRunning(daemon: Daemon, replicas: number): Promise<boolean> {
  const wanted = `${replicas}/${replicas}`
  return until(
    `service web at ${wanted}`,
    async () => (await skein(daemon, 'service', 'ls')).stdout.includes(wanted),
    STEP_TIMEOUT_MS,
  )
}

async function requestThroughEach(daemons: readonly Daemon[], port: number): Promise<void> {
  for (const daemon of daemons) {
    progress.command(`curl http://${daemon.host}:${port}/   (${REQUESTS_PER_NODE} times)`)
    const counts = new Map<string, number>()
    for (let index = 0; index < REQUESTS_PER_NODE; index += 1) {
      const answer = await until('an answer', () => fetchOnce(daemon.host, port), STEP_TIMEOUT_MS)
      counts.set(answer, (counts.get(answer) ?? 0) + 1)
    }
    const lines = [...counts].map(([answer, count]) => `${count} × ${answer}`).toSorted()
    progress.output(lines.join('\n'))
  }
}

interface NodeLine {
  readonly Hostname: string
  readonly ID: string
  readonly Self: boolean | string
  readonly ManagerStatus: string
  readonly Status: string
}

async function nodeLines(daemon: Daemon): Promise<NodeLine[]> {
  const text = await skeinOk(daemon, 'node', 'ls', '--format', 'json')
  return text.split('\n').map((line) => JSON.parse(line) as NodeLine)
}

async function leaderOf(daemons: readonly Daemon[]): Promise<Daemon> {
  return until('a leader', async () => {
    for (const daemon of daemons) {
      const own = (await nodeLines(daemon)).find((line) => String(line.Self) === 'true')
      if (own?.ManagerStatus === 'Leader') return daemon
    }
    return undefined
  })
}

async function killLeader(daemons: readonly Daemon[], port: number): Promise<void> {
  const leader = await leaderOf(daemons)
  progress.command(`kill -KILL ${leader.pid}   # the daemon of ${leader.options.name}, the leader`)
  await leader.kill('SIGKILL')
  const survivors = daemons.filter((daemon) => daemon !== leader)
  const started = performance.now()
  const next = await leaderOf(survivors)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  progress.output(`new leader: ${next.options.name}, after ${seconds} s`)
  progress.note('its replica is replaced on the survivors once it has been away for 10 s')
  await until(
    'the dead node to be noticed',
    async () => (await nodeLines(next)).some((line) => line.Status === 'Down'),
    STEP_TIMEOUT_MS,
  )
  await untilRunning(next, 3)
  progress.output(await show(next, 'service', 'ps', 'web'))
  await requestThroughEach(survivors, port)
}

async function sayHowToGoOn(first: Daemon, port: number): Promise<void> {
  process.stdout.write(`
The swarm goes on. Try:
  export SKEIN_HOST=unix://${first.socket}
  ${SKEIN} node ls
  ${SKEIN} service scale web=6
  curl http://${first.host}:${port}/
  DOCKER_HOST=$SKEIN_HOST docker service ps web
End it with:
  npm run quickstart -- --stop
`)
}

/** Ends the daemons and everything of theirs: `skein daemon --purge` knows what that is. */
async function cleanUp(): Promise<void> {
  const exists = await stat(DIRECTORY).catch(() => undefined)
  if (exists === undefined) return
  for (const index of HOSTS.keys()) {
    const result: CommandResult = await run(SKEIN, [
      'daemon',
      '--data-dir',
      join(DIRECTORY, `node-${index + 1}`),
      '--purge',
    ])
    if (result.code !== 0) throw new Error(`node-${index + 1} was not removed: ${result.stderr}`)
  }
  await rm(DIRECTORY, { recursive: true, force: true })
}

async function main(): Promise<number> {
  const choices = readChoices()
  if (choices === undefined) return 0
  if (choices.port === 0) {
    await progress.step('Stopping the nodes and removing what they left', cleanUp)
    return 0
  }
  await assertPortsFree(choices.port)
  await cleanUp()
  await mkdir(DIRECTORY, { recursive: true })
  let finished = false
  const interrupted = (): void => {
    void cleanUp().then(() => process.exit(130))
  }
  process.once('SIGINT', interrupted)
  try {
    const daemons = await progress.step('Starting three nodes, one process each', startNodes)
    const [first] = daemons
    if (first === undefined) return 1
    await progress.step('Forming the cluster', () => formCluster(daemons))
    await progress.step('A service with three replicas', () => createService(first, choices.port))
    await progress.step('Asking through every node', () =>
      requestThroughEach(daemons, choices.port),
    )
    await progress.step('Killing the leader', () => killLeader(daemons, choices.port))
    const dead = daemons.find((daemon) => !daemon.running)
    if (choices.keep) await dead?.start()
    finished = true
    if (choices.keep) await sayHowToGoOn(first, choices.port)
  } finally {
    process.off('SIGINT', interrupted)
    if (!choices.keep || !finished) {
      await progress.step('Stopping the nodes and removing what they left', cleanUp)
    }
  }
  return 0
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    progress.failed(error)
    process.exit(1)
  },
)
