/**
 * Runs the cluster tests in two lanes at once: tests that boot guests compute all the time, tests of
 * daemons on this machine mostly wait. Guests have the lower priority, so the others get the time
 * they ask for. The daemons' lane is printed as it goes; what the guests' lane says is held back
 * until that has ended, and then follows. A signal ends both.
 *
 * Given arguments, files or options of ava, it runs one lane with those.
 */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const AVA = fileURLToPath(new URL('cli.js', import.meta.resolve('ava')))
/** As `nice`: guests have what the other lane leaves, which is more than one of two processors. */
const GUESTS_NICE = '19'

interface LaneDetails {
  /** They follow the configuration. */
  readonly words?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
}

/** A run of ava. */
class Lane {
  readonly #name: string
  readonly #process: ChildProcess
  readonly #beganMs = performance.now()
  readonly #ended: Promise<unknown[]>
  /** What it said and nobody has seen; undefined once it is shown. */
  #unseen: Uint8Array[] | undefined = []

  /** `configuration` is a file of this folder. */
  constructor(
    { name, configuration, isShown }: { name: string; configuration: string; isShown: boolean },
    { words = [], environment = {} }: LaneDetails = {},
  ) {
    const output = isShown ? 'inherit' : 'pipe'
    const command = [AVA, '--config', `cluster-tests/${configuration}`, ...words]
    this.#name = name
    this.#process = spawn(process.execPath, command, {
      stdio: ['inherit', output, output],
      env: { ...process.env, ...environment },
    })
    // `close`, not `exit`: after the last of its output.
    this.#ended = once(this.#process, 'close')
    // Read at once, else a full pipe would stop it.
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', (chunk: Uint8Array) => this.#take(chunk))
    }
  }

  /** Prints what it said so far, and what it says from now on. */
  show(): void {
    for (const chunk of this.#unseen ?? []) process.stdout.write(chunk)
    this.#unseen = undefined
  }

  /** As Ctrl-C does. Of other signals ava dies alone, and what tests started lives on. */
  interrupt(): void {
    this.#process.kill('SIGINT')
  }

  /** Says how long it took, and whether it passed. */
  async passes(): Promise<boolean> {
    const [code] = await this.#ended
    const minutes = ((performance.now() - this.#beganMs) / 60_000).toFixed(1)
    process.stdout.write(`${this.#name}: ${code === 0 ? 'passed' : 'FAILED'}, ${minutes} min\n\n`)
    return code === 0
  }

  #take(chunk: Uint8Array): void {
    if (this.#unseen === undefined) process.stdout.write(chunk)
    else this.#unseen.push(chunk)
  }
}

/** What runs here ends with this process, not before it: a terminal's Ctrl-C reaches all by itself. */
function endWithUs(lanes: readonly Lane[]): void {
  process.on('SIGINT', () => {})
  for (const signal of ['SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      for (const lane of lanes) lane.interrupt()
    })
  }
}

async function runBoth(): Promise<boolean> {
  const daemons = new Lane({ name: 'daemons', configuration: 'daemons.config.js', isShown: true })
  const guests = new Lane(
    { name: 'guests', configuration: 'guests.config.js', isShown: false },
    { environment: { SKEIN_GUEST_NICE: GUESTS_NICE } },
  )
  endWithUs([daemons, guests])
  const haveDaemonsPassed = await daemons.passes()
  guests.show()
  return (await guests.passes()) && haveDaemonsPassed
}

async function runOne(words: readonly string[]): Promise<boolean> {
  const only = new Lane({ name: 'tests', configuration: 'ava.config.js', isShown: true }, { words })
  endWithUs([only])
  return only.passes()
}

const words = process.argv.slice(2)
process.exitCode = (await (words.length === 0 ? runBoth() : runOne(words))) ? 0 : 1
