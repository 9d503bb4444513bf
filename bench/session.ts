/**
 * One run of a benchmark: its options, its peers (started once, measured in interleaved rounds),
 * and its output. JSON lines of every measurement and the table go to standard output, progress to
 * standard error. Peers are stopped and cleaned up however the run ends.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, tmpdir, totalmem } from 'node:os'
import { join } from 'node:path'
import { startDocker } from './docker-peer.ts'
import type { Peer, PeerName } from './peer.ts'
import { startSkein } from './skein-peer.ts'

const STARTERS: Readonly<Record<PeerName, (parent: string) => Promise<Peer>>> = {
  skein: startSkein,
  docker: startDocker,
}

/** Runs `work` with a directory for peers, and with the peers that it starts stopped afterwards. */
export async function withPeers(
  work: (start: (name: PeerName) => Promise<Peer>) => Promise<void>,
): Promise<void> {
  const parent = mkdtempSync(join(tmpdir(), 'skein-bench-'))
  const started = new Set<Peer>()
  const stopAll = async (): Promise<void> => {
    for (const peer of started) {
      progress(`stopping ${peer.name}`)
      await peer.stop()
    }
    rmSync(parent, { recursive: true, force: true })
  }
  const onSignal = (): void => {
    void stopAll().finally(() => process.exit(130))
  }
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    await work(async (name) => {
      progress(`starting ${name}`)
      const peer = await STARTERS[name](parent)
      started.add(peer)
      return {
        ...peer,
        async stop() {
          started.delete(peer)
          await peer.stop()
        },
      }
    })
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal)
    await stopAll()
  }
}

/** Writes one line of progress. */
export function progress(text: string): void {
  process.stderr.write(`bench: ${text}\n`)
}

/** Writes one measurement as a JSON line. */
export function record(measurement: object): void {
  process.stdout.write(`${JSON.stringify(measurement)}\n`)
}

/** What a reader needs to judge the figures: machine, versions, commit, date. */
export async function recordSetting(peers: readonly Peer[]): Promise<void> {
  const versions: Record<string, string> = {}
  for (const peer of peers) versions[peer.name] = await peer.client.version()
  record({
    what: 'setting',
    date: new Date().toISOString(),
    commit: execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim(),
    cpus: cpus().length,
    cpu: cpus()[0]?.model,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
    node: process.version,
    versions,
  })
}
