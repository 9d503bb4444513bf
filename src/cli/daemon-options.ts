/** What `skein daemon` is told; `node.ts` builds the node from it. */

/** Names of the levels of the log. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

/** What may balance, `auto` being the best that the kernel has and that is proven. */
export const BALANCERS = ['auto', 'ipvs', 'nftables', 'userspace'] as const

/** Options of the daemon, all with a value. */
export interface DaemonOptions {
  readonly dataDirectory: string
  /** `host:port` on which peers are accepted. */
  readonly listenAddress: string
  /** `host[:port]` that peers are told; empty = derived from the listen address. */
  readonly advertiseAddress: string
  /** Unix socket of the API. */
  readonly socketPath: string
  readonly logLevel: (typeof LOG_LEVELS)[number]
  /** The name that the swarm shows for this node; empty = the machine's. */
  readonly hostname: string
  /** No better one than this is used, and a lesser one where it cannot be. Default `auto`. */
  readonly balancer?: (typeof BALANCERS)[number]
  /** `text`: short lines for people; `json`: one object a line. */
  readonly logFormat: 'text' | 'json'
}

/** Docker Swarm's port on all addresses. */
export const LISTEN_ADDRESS_DEFAULT = '0.0.0.0:2377'

/** Where a daemon of root keeps its data. */
export const DATA_DIRECTORY_DEFAULT = '/var/lib/skein'

/**
 * Where a client looks for a daemon, and a daemon of root with the default data directory
 * listens.
 */
export const SOCKET_PATH_DEFAULT = '/run/skein/skein.sock'
