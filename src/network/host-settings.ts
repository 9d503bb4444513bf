/**
 * Settings of the host that this node changes, and how they go back when it leaves its swarm.
 *
 * - What a setting was is recorded, durably, before it is changed for the first time. So a crash at
 *   any moment leaves a record of everything that may have been changed.
 * - Back goes only what still has the value that we gave it: what somebody else set since stays.
 * - Who sets it back after us is overruled, and what he set is what it goes back to.
 * - Some settings change others with them (`net/ipv4/devinet.c`, `inet_forward_change`;
 *   `net/ipv6/addrconf.c`, `addrconf_fixup_forwarding`): forwarding of the host becomes that of
 *   every device, and on this way back, too. Those that would come back wrong are recorded as well.
 * - A record of another boot or another network namespace says nothing about this one.
 */
import type { SettingAccess } from './setting-access.ts'

/** A setting that we changed. */
export interface ChangedSetting {
  readonly name: string
  /** What it goes back to. */
  readonly was: string
  /** What we gave it, or what it got with another one. */
  readonly made: string
}

/** What is on record. */
export interface HostRecord {
  /** The node that changed the host; its devices and tables have names of it. */
  readonly nodeId: string
  /** Which boot and namespace the settings belong to. */
  readonly kernel: string
  /** In the order in which they were changed. */
  readonly changed: readonly ChangedSetting[]
}

/** Where the record is kept. Writes are durable when they resolve. */
export interface HostRecordStore {
  read(): Promise<HostRecord | undefined>
  write(record: HostRecord): Promise<void>
  remove(): Promise<void>
}

/** A record that ends with the process: for tests and trials. */
export function memoryRecord(): HostRecordStore {
  let kept: HostRecord | undefined
  return {
    read: () => Promise.resolve(kept),
    write: async (record) => Promise.resolve(void (kept = record)),
    remove: async () => Promise.resolve(void (kept = undefined)),
  }
}

const IPV4_FORWARDING = 'net/ipv4/ip_forward'
const IPV6_FORWARDING = 'net/ipv6/conf/all/forwarding'

/** Reads and sets the host's settings, and puts them back. One call at a time. */
export class HostSettings {
  readonly #access: SettingAccess
  readonly #store: HostRecordStore
  /** Settles when the call before the next one has ended. Never rejects. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(access: SettingAccess, store: HostRecordStore = memoryRecord()) {
    this.#access = access
    this.#store = store
  }

  /** The value, or undefined: this kernel has no such setting. @throws NetlinkError */
  read(name: string): Promise<string | undefined> {
    return this.#access.read(name)
  }

  /** Names of all devices. @throws NetlinkError */
  devices(): Promise<readonly string[]> {
    return this.#access.devices()
  }

  /** Sets a setting that stays ours alone and goes with its device: nothing is recorded. */
  async setOwn(name: string, value: string): Promise<boolean> {
    if ((await this.#access.read(name)) === value) return false
    await this.#access.write(name, value)
    return true
  }

  /**
   * Sets a setting of the host; whether it had another value. One that does not exist is no error:
   * false. @throws NetlinkError, STORAGE_FULL when it cannot be recorded
   */
  set(name: string, value: string): Promise<boolean> {
    return this.#inTurn(async () => {
      const was = await this.#access.read(name)
      if (was === undefined || was === value) return false
      const record = (await this.#record()) ?? (await this.#emptyRecord(''))
      const followers = await this.#followersOf(name, { was, value })
      const others = record.changed.filter((one) => one.name !== name && !followers.has(one.name))
      const kept = [...followers.values()].filter((one) => one !== undefined)
      await this.#store.write({
        ...record,
        changed: [...others, { name, was, made: value }, ...kept],
      })
      await this.#access.write(name, value)
      return true
    })
  }

  /** Records whose names this host's devices and tables will have: before any is made. */
  claim(nodeId: string): Promise<void> {
    return this.#inTurn(async () => {
      const record = await this.#record()
      if (record?.nodeId === nodeId) return
      await this.#store.write({ ...(record ?? (await this.#emptyRecord(nodeId))), nodeId })
    })
  }

  /** The node on record, of whichever boot; undefined: nothing of a node is here. */
  claimant(): Promise<string | undefined> {
    return this.#inTurn(async () => (await this.#store.read())?.nodeId || undefined)
  }

  /** Whether this setting is on record as changed by us. */
  hasChanged(name: string): Promise<boolean> {
    return this.#inTurn(async () => {
      return (await this.#record())?.changed.some((one) => one.name === name) ?? false
    })
  }

  /** Puts everything back and forgets the record. @throws NetlinkError, INTERNAL */
  restore(): Promise<void> {
    return this.#inTurn(async () => {
      const changed = (await this.#record())?.changed ?? []
      const targets: { readonly name: string; readonly value: string }[] = []
      for (const { name, was, made } of changed.toReversed()) {
        const now = await this.#access.read(name)
        if (now !== undefined) targets.push({ name, value: now === made ? was : now })
      }
      // Twice: what went back first may have been changed by what came after it.
      for (const { name, value } of [...targets, ...targets]) await this.setOwn(name, value)
      await this.#store.remove()
    })
  }

  /** The record of this boot and namespace. */
  async #record(): Promise<HostRecord | undefined> {
    const record = await this.#store.read()
    if (record === undefined) return undefined
    const kernel = await this.#access.kernel()
    return record.kernel === kernel ? record : { nodeId: record.nodeId, kernel, changed: [] }
  }

  async #emptyRecord(nodeId: string): Promise<HostRecord> {
    return { nodeId, kernel: await this.#access.kernel(), changed: [] }
  }

  /**
   * Settings that change with `name`: those that would be wrong after it went back, to be recorded;
   * undefined for those that come back right.
   */
  async #followersOf(
    name: string,
    change: { readonly was: string; readonly value: string },
  ): Promise<ReadonlyMap<string, ChangedSetting | undefined>> {
    const followers = new Map<string, ChangedSetting | undefined>()
    for (const follower of await this.#followerNames(name)) {
      const isRedirects = follower.endsWith('accept_redirects')
      const forced = (value: string): string => (isRedirects ? inverse(value) : value)
      const was = await this.#access.read(follower)
      const isWrong = was !== undefined && was !== forced(change.was)
      const made = forced(change.value)
      followers.set(follower, isWrong ? { name: follower, was, made } : undefined)
    }
    return followers
  }

  async #followerNames(name: string): Promise<readonly string[]> {
    if (name !== IPV4_FORWARDING && name !== IPV6_FORWARDING) return []
    const family = name === IPV4_FORWARDING ? 'ipv4' : 'ipv6'
    const devices = ['default', ...(await this.#access.devices())]
    const forwarding = devices.map((device) => `net/${family}/conf/${device}/forwarding`)
    return family === 'ipv4' ? ['net/ipv4/conf/all/accept_redirects', ...forwarding] : forwarding
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(task)
    this.#turn = result.catch(() => {})
    return result
  }
}

function inverse(value: string): string {
  return value === '0' ? '1' : '0'
}
