/** The tree of commands: what exists, and from where it is loaded when it is run. */
import type { Command } from './command.ts'

/** A command that is loaded when it is run. */
export interface Entry {
  readonly short: string
  /** Other names, not shown in help. */
  readonly aliases?: readonly string[]
  readonly load: () => Promise<Command>
}

/** Commands under one word. */
export interface Group {
  readonly short: string
  readonly entries: Readonly<Record<string, Entry>>
}

const swarm: Group = {
  short: 'Manage Swarm',
  entries: {
    init: {
      short: 'Initialize a swarm',
      load: async () => (await import('./commands/swarm.ts')).init,
    },
    join: {
      short: 'Join a swarm as a node and/or manager',
      load: async () => (await import('./commands/swarm.ts')).join,
    },
    'join-token': {
      short: 'Manage join tokens',
      load: async () => (await import('./commands/swarm.ts')).joinToken,
    },
    leave: {
      short: 'Leave the swarm',
      load: async () => (await import('./commands/swarm.ts')).leave,
    },
  },
}

const node: Group = {
  short: 'Manage Swarm nodes',
  entries: {
    demote: {
      short: 'Demote one or more nodes from manager in the swarm',
      load: async () => (await import('./commands/node-change.ts')).demote,
    },
    inspect: {
      short: 'Display detailed information on one or more nodes',
      load: async () => (await import('./commands/node-list.ts')).inspect,
    },
    ls: {
      short: 'List nodes in the swarm',
      aliases: ['list'],
      load: async () => (await import('./commands/node-list.ts')).list,
    },
    promote: {
      short: 'Promote one or more nodes to manager in the swarm',
      load: async () => (await import('./commands/node-change.ts')).promote,
    },
    ps: {
      short: 'List tasks running on one or more nodes, defaults to current node',
      load: async () => (await import('./commands/tasks.ts')).nodeTasks,
    },
    rm: {
      short: 'Remove one or more nodes from the swarm',
      aliases: ['remove'],
      load: async () => (await import('./commands/node-change.ts')).remove,
    },
    update: {
      short: 'Update a node',
      load: async () => (await import('./commands/node-change.ts')).update,
    },
  },
}

const service: Group = {
  short: 'Manage Swarm services',
  entries: {
    create: {
      short: 'Create a new service',
      load: async () => (await import('./commands/service-create.ts')).create,
    },
    inspect: {
      short: 'Display detailed information on one or more services',
      load: async () => (await import('./commands/service-list.ts')).inspect,
    },
    logs: {
      short: 'Fetch the logs of a service or task',
      load: async () => (await import('./commands/service-logs.ts')).logs,
    },
    ls: {
      short: 'List services',
      aliases: ['list'],
      load: async () => (await import('./commands/service-list.ts')).list,
    },
    ps: {
      short: 'List the tasks of one or more services',
      load: async () => (await import('./commands/tasks.ts')).serviceTasks,
    },
    rm: {
      short: 'Remove one or more services',
      aliases: ['remove'],
      load: async () => (await import('./commands/service-change.ts')).remove,
    },
    rollback: {
      short: "Revert changes to a service's configuration",
      load: async () => (await import('./commands/service-update.ts')).rollback,
    },
    scale: {
      short: 'Scale one or multiple replicated services',
      load: async () => (await import('./commands/service-change.ts')).scale,
    },
    update: {
      short: 'Update a service',
      load: async () => (await import('./commands/service-update.ts')).update,
    },
  },
}

const network: Group = {
  short: 'Manage networks',
  entries: {
    create: {
      short: 'Create a network',
      load: async () => (await import('./commands/network.ts')).create,
    },
    inspect: {
      short: 'Display detailed information on one or more networks',
      load: async () => (await import('./commands/network.ts')).inspect,
    },
    ls: {
      short: 'List networks',
      aliases: ['list'],
      load: async () => (await import('./commands/network.ts')).list,
    },
    prune: {
      short: 'Remove all networks that no service uses',
      load: async () => (await import('./commands/network.ts')).prune,
    },
    rm: {
      short: 'Remove one or more networks',
      aliases: ['remove'],
      load: async () => (await import('./commands/network.ts')).remove,
    },
  },
}

const image: Group = {
  short: 'Manage images',
  entries: {
    load: {
      short: 'Load an image from a tar archive or STDIN',
      load: async () => (await import('./commands/image.ts')).load,
    },
    ls: {
      short: 'List images',
      aliases: ['list'],
      load: async () => (await import('./commands/image.ts')).list,
    },
    rm: {
      short: 'Remove one or more images',
      aliases: ['remove'],
      load: async () => (await import('./commands/image.ts')).remove,
    },
  },
}

/** Commands under a word. */
export const GROUPS: Readonly<Record<string, Group>> = { image, network, node, service, swarm }

/** Commands that are one word. */
export const COMMANDS: Readonly<Record<string, Entry>> = {
  daemon: {
    short: 'Run a node',
    load: async () => (await import('./daemon.ts')).daemon,
  },
  doctor: {
    short: 'Examine this host',
    load: async () => (await import('./commands/doctor.ts')).doctor,
  },
  images: {
    short: 'List images',
    load: async () => (await import('./commands/image.ts')).list,
  },
  info: {
    short: 'Display system-wide information',
    load: async () => (await import('./commands/info.ts')).info,
  },
  load: {
    short: 'Load an image from a tar archive or STDIN',
    load: async () => (await import('./commands/image.ts')).load,
  },
  rmi: {
    short: 'Remove one or more images',
    load: async () => (await import('./commands/image.ts')).remove,
  },
  version: {
    short: 'Show the Skein version information',
    load: async () => (await import('./commands/version.ts')).version,
  },
}
