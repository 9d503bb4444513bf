/**
 * The crash test: three server processes, a client outside, and somebody who kills and freezes
 * processes at random. After each round the group must acknowledge writes again; every few rounds,
 * and at the end, everything that was acknowledged must be there, and all members must be equal.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom } from '../../src/base/random.ts'
import { dealBlow, type Blows } from './faults.ts'
import { History } from './history.ts'
import { Load } from './load.ts'
import { replaceMember } from './replacement.ts'
import { CLIENT_PORT, Member, PEER_PORT, ask } from './member.ts'
import type { MemberStatus, Peer } from './protocol.ts'

const MEMBERS = 3
/** Time in which a whole group must work again, also on a busy machine. */
const RECOVERY_MS_MAX = 30_000
const CHECK_EVERY_ROUNDS = 10
const POLL_MS = 25

/** What to do. */
export interface CampaignOptions {
  readonly rounds: number
  readonly seed: number
  readonly log: 'level' | 'file'
  readonly transport: 'tcp' | 'mesh'
  /** Empty or missing; removed when all went well. */
  readonly directory: string
  /** An address of 127/8 that nobody else uses. */
  readonly host: string
  readonly say?: (text: string) => void
}

/** What was done and seen. */
export interface CampaignReport extends Blows {
  readonly rounds: number
  readonly writes: number
  readonly acknowledgedWrites: number
  /** Values in the ledger at the end: the acknowledged ones and some of unknown outcome. */
  readonly ledgerLength: number
  /** Writes that were refused with the promise of no effect, by code. */
  readonly refused: Readonly<Record<string, number>>
  readonly reads: number
  /** Terms that were begun, and those in which a write was acknowledged. */
  readonly elections: number
  readonly leaders: number
  /** Newest entry that a snapshot covers. */
  readonly snapshotIndex: number
  /** Snapshots that a member took over from the leader, and log ends that were cut at a start. */
  readonly installedSnapshots: number
  readonly tornTails: number
  /** Longest wait for an acknowledged write after all members were started, milliseconds. */
  readonly slowestRecoveryMs: number
  readonly violations: readonly string[]
}

/** Runs the whole test. @throws Error when the group does not come back or a member gives up */
export async function runCampaign(options: CampaignOptions): Promise<CampaignReport> {
  await using campaign = new Campaign(options)
  return await campaign.run()
}

class Campaign implements AsyncDisposable {
  readonly #options: CampaignOptions
  readonly #members: Member[]
  /** All that ever were, also the removed ones. */
  readonly #everyone: Member[] = []
  /** Being added: not a member yet, or beside the one whose place it takes. */
  #joining: Member | undefined
  /** The transport and client port that no member has now. */
  #freePlace = MEMBERS
  readonly #history = new History()
  readonly #load: Load
  readonly #blows: Blows = { kills: 0, freezes: 0, cuts: 0, transfers: 0, replacements: 0 }
  #slowestRecoveryMs = 0
  #snapshotIndex = 0
  #term = 0

  constructor(options: CampaignOptions) {
    this.#options = options
    this.#members = Array.from({ length: MEMBERS }, (_none, place) => this.#make(place, true))
    const random = seededRandom(options.seed ^ 0x10ad)
    this.#load = new Load({ members: this.#members, history: this.#history, random })
  }

  async run(): Promise<CampaignReport> {
    const { rounds, seed, say = () => {}, directory } = this.#options
    const arena = {
      members: this.#members,
      random: seededRandom(seed),
      blows: this.#blows,
      leader: () => this.#load.leader,
      replace: (position: number, disturb: () => Promise<void>) => this.#replace(position, disturb),
    }
    for (const member of this.#members) member.start()
    for (const member of this.#members) await member.untilBootstrapped()
    this.#load.start()
    await this.#untilWriting()
    for (let round = 1; round <= rounds && this.#history.violations.length === 0; round += 1) {
      const fault = await dealBlow(arena)
      await this.#untilWriting()
      const { acknowledgedWrites } = this.#history
      say(`round ${round}: ${fault}, ${acknowledgedWrites} acknowledged writes`)
      if (round % CHECK_EVERY_ROUNDS !== 0) continue
      await this.#check()
      this.#load.start()
    }
    if (this.#history.violations.length === 0) await this.#check()
    await this.#load.stop()
    const report = this.#report()
    if (report.violations.length === 0) rmSync(directory, { recursive: true })
    return report
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#load.stop()
    for (const member of this.#everyone) await member.kill()
  }

  /** A member that has never been, on the ports of `place`. */
  #make(place: number, isFirst: boolean): Member {
    const { host, log, transport, directory } = this.#options
    const name = `member-${this.#everyone.length}`
    const settings = {
      self: { name, address: `${host}:${PEER_PORT + place}` },
      ...{ host, log, transport, clientPort: CLIENT_PORT + place },
      directory: join(directory, name),
    }
    const member = new Member(settings, { isFirst, peers: () => this.#peers() })
    this.#everyone.push(member)
    return member
  }

  #peers(): readonly Peer[] {
    const joining = this.#joining === undefined ? [] : [this.#joining]
    return [...this.#members, ...joining].map(({ self }) => self)
  }

  async #replace(position: number, disturb: () => Promise<void>): Promise<void> {
    const old = this.#members[position]
    if (old === undefined) return
    const joining = this.#make(this.#freePlace, false)
    this.#joining = joining
    await replaceMember({
      old,
      joining,
      disturb,
      members: this.#members,
      until: (what, condition) => this.#until(what, condition),
    })
    this.#freePlace = old.place
    this.#members[position] = joining
    this.#joining = undefined
    await old.kill()
  }

  /** Until a write is acknowledged that began now. */
  async #untilWriting(): Promise<void> {
    const before = this.#history.acknowledgedWrites
    const start = performance.now()
    await this.#until('a write is acknowledged', () =>
      Promise.resolve(this.#history.acknowledgedWrites > before),
    )
    this.#slowestRecoveryMs = Math.max(this.#slowestRecoveryMs, performance.now() - start)
  }

  /** Stops the load, waits until all members are equal, and checks every value. */
  async #check(): Promise<void> {
    await this.#load.stop()
    let statuses: readonly MemberStatus[] = []
    await this.#until('all members are equal', async () => {
      const answers = await Promise.all(
        this.#members.map((member) => ask(member, { type: 'status' })),
      )
      statuses = answers.filter((answer) => answer?.type === 'status')
      const [first] = statuses
      return statuses.length === MEMBERS && statuses.every((status) => isEqual(status, first))
    })
    for (const { term, snapshotIndex } of statuses) {
      this.#term = Math.max(this.#term, term)
      this.#snapshotIndex = Math.max(this.#snapshotIndex, snapshotIndex)
    }
    const began = this.#history.begin()
    const from = this.#history.checkedLength
    await this.#until('the ledger is read', async () => {
      const answer = await ask(this.#members[this.#load.leader], { type: 'tail', from })
      if (answer?.type !== 'tail') return false
      this.#history.onTail(answer.values, answer.digest, began)
      return true
    })
    const [status] = statuses
    if (status !== undefined && status.length > this.#history.checkedLength) {
      this.#history.violations.push('members held more than a linearizable read showed')
    }
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const deadline = performance.now() + RECOVERY_MS_MAX
    while (!(await condition())) {
      const died = this.#everyone.find((member) => member.died !== undefined)?.died
      if (died !== undefined) throw new Error(died)
      if (performance.now() > deadline) {
        throw new Error(`not within ${RECOVERY_MS_MAX} ms: ${what}; see ${this.#options.directory}`)
      }
      await sleep(POLL_MS)
    }
  }

  #countInOutputs(text: string): number {
    const counts = this.#everyone.map((member) => member.output().split(text).length - 1)
    return counts.reduce((sum, count) => sum + count, 0)
  }

  #report(): CampaignReport {
    return {
      ...this.#blows,
      rounds: this.#options.rounds,
      writes: this.#load.writes,
      acknowledgedWrites: this.#history.acknowledgedWrites,
      ledgerLength: this.#history.checkedLength,
      refused: this.#load.refused,
      reads: this.#history.reads,
      elections: this.#term - 1,
      leaders: this.#load.termsWithWrites.size,
      snapshotIndex: this.#snapshotIndex,
      installedSnapshots: this.#countInOutputs('"installed a snapshot"'),
      tornTails: this.#countInOutputs('"cut the torn end of the raft log"'),
      slowestRecoveryMs: Math.round(this.#slowestRecoveryMs),
      violations: this.#history.violations,
    }
  }
}

function isEqual(status: MemberStatus, other: MemberStatus | undefined): boolean {
  return status.length === other?.length && status.digest === other.digest
}
