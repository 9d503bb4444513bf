/** What the driver needs of a virtual server of any protocol, and what such a server is given. */
import type { Clock } from '../../base/clock.ts'
import type { Logger } from '../../base/log.ts'
import type { Random } from '../../base/random.ts'
import type { VirtualServer } from '../ports.ts'
import type { Scheduling } from './backend-set.ts'
import type { DialMeans } from './dial.ts'
import type { ConnectionBudget, UserspaceLimits } from './limits.ts'

/** A listening port and its backends. */
export interface Frontend {
  /** Takes over new backends; those left out are dropped before this returns. */
  update(server: VirtualServer): void
  /** Binds the port unless bound. Resolves to what is wrong, undefined when nothing is. */
  listen(): Promise<string | undefined>
  /** Drops everything; the port is free when this returns, handles when the promise resolves. */
  close(): Promise<void>
}

/** Shared by all frontends of a driver. */
export interface FrontendContext extends DialMeans {
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly limits: UserspaceLimits
  readonly scheduling: Scheduling
  readonly budget: ConnectionBudget
}

/** A bind error in words. */
export function bindFault(server: VirtualServer, error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  const where = `port ${server.port}/${server.protocol} on ${server.address}`
  if (code === 'EADDRINUSE') return `${where}: is already in use on this node`
  if (code === 'EACCES') return `${where}: needs privileges that the daemon does not have`
  return `${where}: cannot be opened (${code})`
}
