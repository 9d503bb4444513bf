/**
 * Keeps the plane as the store wants it: looks at the store at the start, follows commits and this
 * node's own tasks (`plane-derivation.ts`); changes in quick succession are one application. Every
 * minute everything is compared with the kernel: what somebody else deleted comes back. A fault is
 * tried again by timer.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import { errorText } from '../../base/errors.ts'
import type { Logger } from '../../base/log.ts'
import type { StoreView } from '../../store/view.ts'
import { Progress } from '../drain/progress.ts'
import type { Programmed } from '../drain/progress.ts'
import type { OwnTasks } from '../network.ts'
import { TimeSlices } from '../time-slices.ts'
import { PlaneDerivation } from './plane-derivation.ts'
import type { TouchedMembers } from './plane-derivation.ts'
import type { PlaneReport } from './plane.ts'
import type { WantedPlane } from './wanted-plane.ts'

/** Milliseconds in which changes are gathered into one application. */
export const PLANE_COALESCE_MS = 10

/** Milliseconds after which a plane with faults is tried again. */
export const PLANE_RETRY_MS = 5_000

/** Milliseconds between comparisons of everything with the kernel. */
export const PLANE_VERIFY_MS = 60_000

/** The part of `Plane` that is kept. */
export interface AppliedPlane {
  apply(wanted: WantedPlane, touched?: TouchedMembers): Promise<PlaneReport>
  forget(): void
}

/** What the reconciler needs. */
export interface PlaneComponents {
  readonly store: StoreView
  readonly plane: AppliedPlane
  readonly clock: Clock
  readonly log: Logger
  /** Absent: this node's tasks are as the store says. */
  readonly ownTasks?: OwnTasks
  /** Absent: every node is next door. */
  readonly relays?: PeerRelays
}

/** Which nodes are reached through others. */
export interface PeerRelays {
  /** The node that packets to `nodeId` must pass; undefined: none. */
  relayTo(nodeId: string): string | undefined
  /** Calls `listener` after each change; returns the undo. */
  onChange(listener: () => void): () => void
}

/** Keeps a plane as the store wants it. */
export class PlaneReconciler {
  readonly #parts: PlaneComponents
  readonly #derivation: PlaneDerivation
  readonly #progress: Progress
  #undo: readonly (() => void)[] = []
  #timer: Timer | undefined
  #verifyTimer: Timer | undefined
  #applying: Promise<void> | undefined
  #isDirty = false
  #status: 'new' | 'started' | 'stopped' = 'new'
  #faults: readonly string[] = []
  #wanted: WantedPlane | undefined

  constructor(components: PlaneComponents, options: { readonly nodeId: string }) {
    this.#parts = components
    const { store, clock, ownTasks, relays } = components
    this.#progress = new Progress(store)
    this.#derivation = new PlaneDerivation({
      store,
      nodeId: options.nodeId,
      slices: new TimeSlices(clock),
      ...(ownTasks === undefined ? {} : { ownTasks: () => ownTasks.tasks() }),
      ...(relays === undefined ? {} : { relayTo: (id: string) => relays.relayTo(id) }),
    })
  }

  /** What is wrong now, for people; also nodes that are no peers. */
  get faults(): readonly string[] {
    return [...this.#faults, ...(this.#wanted?.notes ?? [])]
  }

  /** Up to where the plane is as the store says. */
  get progress(): Programmed {
    return this.#progress
  }

  /** What was applied last; undefined while this node has no subnet. */
  get wanted(): WantedPlane | undefined {
    return this.#wanted
  }

  /** Applies what the store says now and follows it from here on. */
  start(): void {
    if (this.#status !== 'new') return
    this.#status = 'started'
    const { store, ownTasks, relays } = this.#parts
    this.#undo = [
      store.onCommit((commit) => {
        if (this.#derivation.noteCommit(commit)) this.#markDirty()
      }),
      ...undoOf(
        ownTasks?.onChange(() => {
          this.#derivation.noteOwnTasks()
          this.#markDirty()
        }),
      ),
      ...undoOf(
        relays?.onChange(() => {
          this.#derivation.noteRelays()
          this.#markDirty()
        }),
      ),
    ]
    this.#isDirty = true
    this.#run()
    this.#verifyLater()
  }

  /** Resolves when all that the store and the tasks say now is applied: before a task starts. */
  async ensure(): Promise<void> {
    // What runs now may have read before; what begins after it has not.
    await this.#applying
    this.#isDirty = true
    this.#run()
    await this.#applying
  }

  /** Stops following. The plane stays: tasks and other nodes use it. */
  async stop(): Promise<void> {
    this.#status = 'stopped'
    for (const undo of this.#undo) undo()
    this.#timer?.cancel()
    this.#verifyTimer?.cancel()
    this.#progress.stop()
    await this.#applying
  }

  #markDirty(): void {
    this.#isDirty = true
    this.#progress.note()
    if (this.#status !== 'started' || this.#applying !== undefined) return
    this.#schedule(PLANE_COALESCE_MS)
  }

  #schedule(delayMs: number): void {
    this.#timer?.cancel()
    this.#timer = this.#parts.clock.after(delayMs, () => this.#run())
  }

  /** Not marked before its time: who waits in `ensure` does not wait for what cannot be. */
  #retryLater(): void {
    this.#timer?.cancel()
    this.#timer = this.#parts.clock.after(PLANE_RETRY_MS, () => this.#markDirty())
  }

  /** One application at a time; what changes meanwhile is the next one's. */
  #run(): void {
    if (this.#status !== 'started' || this.#applying !== undefined) return
    this.#timer?.cancel()
    this.#progress.begin()
    this.#applying = this.#apply().finally(() => {
      this.#applying = undefined
      this.#progress.end()
      if (this.#isDirty) this.#run()
      else if (this.#faults.length > 0 && this.#status === 'started') this.#retryLater()
    })
  }

  async #apply(): Promise<void> {
    this.#isDirty = false
    const { plane } = this.#parts
    try {
      const derived = await this.#derivation.derive()
      this.#wanted = derived?.wanted
      if (derived === undefined) return
      const { faults } = await plane.apply(derived.wanted, derived.touched)
      this.#tell(faults)
    } catch (error) {
      // A mistake in a record must not end the agent, whose tasks run on.
      plane.forget()
      this.#tell([errorText(error)])
    }
  }

  #tell(faults: readonly string[]): void {
    const isNews = faults.join() !== this.#faults.join()
    this.#faults = faults
    if (!isNews) return
    if (faults.length > 0) this.#parts.log.warn({ faults }, 'the data plane has faults')
    else this.#parts.log.info({}, 'the data plane is as wanted again')
  }

  #verifyLater(): void {
    this.#verifyTimer = this.#parts.clock.after(PLANE_VERIFY_MS, () => {
      this.#parts.plane.forget()
      this.#markDirty()
      this.#verifyLater()
    })
  }
}

function undoOf(undo: (() => void) | undefined): (() => void)[] {
  return undo === undefined ? [] : [undo]
}
