/**
 * Gets the data key to a node that was promoted, and removes it from one that was demoted. A
 * manager answers only nodes whose replicated role is manager; the caller's id is proven by the
 * mesh.
 */
import { delay } from '../base/clock.ts'
import type { Clock } from '../base/clock.ts'
import { SwarmError, errorText } from '../base/errors.ts'
import type { Logger } from '../base/log.ts'
import type { Mesh } from '../mesh/ports.ts'
import type { StoreView } from '../store/view.ts'
import type { ClusterKeys } from './cluster-keys.ts'
import { LatestTask } from './latest-task.ts'

const DATA_KEY_METHOD = 'cluster.dataKey'

/** Pause before managers are asked again. */
const RETRY_MS = 500

interface Components {
  readonly store: StoreView
  readonly mesh: Mesh
  readonly keys: ClusterKeys
  readonly clock: Clock
  readonly log: Logger
}

/** Follows this node's role. */
export class DataKeyExchange {
  readonly #components: Components
  readonly #nodeId: string
  readonly #undo: () => void
  readonly #stop = new AbortController()
  readonly #task: LatestTask<'manager' | 'worker'>
  #role: 'manager' | 'worker' | undefined

  constructor(components: Components, nodeId: string) {
    this.#components = components
    this.#nodeId = nodeId
    this.#task = new LatestTask(
      (role: 'manager' | 'worker') => this.#become(role),
      (error) => {
        if (this.#stop.signal.aborted) return
        components.log.error({ err: errorText(error) }, 'data key could not follow the role')
      },
    )
    components.mesh.handle(DATA_KEY_METHOD, (_body, from) => Promise.resolve(this.#answer(from)))
    this.#undo = components.store.onCommit(() => this.#follow())
    this.#follow()
  }

  async stop(): Promise<void> {
    this.#undo()
    this.#stop.abort(new SwarmError('SHUTTING_DOWN', 'data key: node stops'))
    await this.#task.settled()
  }

  #follow(): void {
    const role = this.#components.store.get('nodes', this.#nodeId)?.spec.Role
    if (role === undefined || role === this.#role) return
    this.#role = role
    this.#task.want(role)
  }

  #answer(from: string): Uint8Array {
    const { store, keys } = this.#components
    if (store.get('nodes', from)?.spec.Role !== 'manager') {
      throw new SwarmError('PERMISSION_DENIED', `node ${from}: only managers get the data key`)
    }
    if (keys.dataKey === undefined) {
      throw new SwarmError('UNAVAILABLE', `node ${this.#nodeId}: does not hold the data key`)
    }
    return keys.dataKey
  }

  async #become(role: 'manager' | 'worker'): Promise<void> {
    const { keys, clock, log } = this.#components
    if (role === 'worker') {
      if (keys.dataKey !== undefined) await keys.discard()
      return
    }
    while (keys.dataKey === undefined && this.#role === 'manager') {
      const found = await this.#ask()
      if (found === undefined) await delay(clock, RETRY_MS, this.#stop.signal)
      else await keys.adopt(found)
    }
    log.debug({}, 'data key is here')
  }

  async #ask(): Promise<Uint8Array | undefined> {
    const { store, mesh, log } = this.#components
    const managers = store.list('nodes').filter((node) => node.spec.Role === 'manager')
    for (const manager of managers) {
      if (manager.id === this.#nodeId) continue
      try {
        const signal = this.#stop.signal
        const key = await mesh.request(manager.id, DATA_KEY_METHOD, undefined, { signal })
        if (key instanceof Uint8Array) return key
      } catch (error) {
        this.#stop.signal.throwIfAborted()
        log.debug({ peer: manager.id, err: errorText(error) }, 'manager gave no data key')
      }
    }
    return undefined
  }
}
