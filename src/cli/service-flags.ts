/** The flags of `service create` and `service update`. */
import type { Flag } from './command.ts'

function article(kind: 'update' | 'rollback'): string {
  return kind === 'update' ? 'an update' : 'a rollback'
}

/**
 * What applies to updates and to rollbacks alike, by docker's names after `update-` and
 * `rollback-`.
 */
function updateFlags(kind: 'update' | 'rollback'): readonly Flag[] {
  return [
    {
      name: `${kind}-parallelism`,
      kind: 'uint',
      help: `Most tasks that take part in ${article(kind)} at a time (0 = all at once) (default 1)`,
    },
    { name: `${kind}-delay`, kind: 'duration', help: `Delay between steps of ${article(kind)}` },
    {
      name: `${kind}-failure-action`,
      kind: 'string',
      help:
        `Action on ${kind} failure ` +
        `("pause", "continue"${kind === 'update' ? ', "rollback"' : ''})`,
    },
    {
      name: `${kind}-monitor`,
      kind: 'duration',
      help: `Time after each task's ${kind} to watch for failure (default 5s)`,
    },
    {
      name: `${kind}-max-failure-ratio`,
      kind: 'string',
      value: 'float',
      help: `Failure rate to tolerate during ${article(kind)} (default 0)`,
    },
    {
      name: `${kind}-order`,
      kind: 'string',
      help: `Order of ${article(kind)} ("start-first", "stop-first") (default "stop-first")`,
    },
  ]
}

/** All of them, as docker names them. */
export const SERVICE_FLAGS: readonly Flag[] = [
  ...updateFlags('update'),
  ...updateFlags('rollback'),
  { name: 'name', kind: 'string', help: 'Service name' },
  { name: 'replicas', kind: 'uint', help: 'Number of tasks' },
  {
    name: 'mode',
    kind: 'string',
    help: 'Service mode ("replicated", "global") (default "replicated")',
  },
  {
    name: 'publish',
    short: 'p',
    kind: 'list',
    value: 'port',
    help: 'Publish a port as a node port: 8080:80[/udp], or published=8080,target=80[,mode=host]',
  },
  { name: 'env', short: 'e', kind: 'list', help: 'Set environment variables' },
  { name: 'label', short: 'l', kind: 'list', help: 'Service labels' },
  { name: 'container-label', kind: 'list', help: 'Container labels' },
  {
    name: 'mount',
    kind: 'list',
    value: 'mount',
    help:
      'Attach a filesystem mount to the service: ' +
      'type=bind,source=/path,target=/path[,readonly]',
  },
  { name: 'constraint', kind: 'list', help: 'Placement constraints' },
  { name: 'placement-pref', kind: 'list', value: 'pref', help: 'Add a placement preference' },
  {
    name: 'replicas-max-per-node',
    kind: 'uint',
    help: 'Maximum number of tasks per node (default 0 = unlimited)',
  },
  { name: 'limit-cpu', kind: 'decimal', help: 'Limit CPUs' },
  { name: 'limit-memory', kind: 'bytes', help: 'Limit memory' },
  {
    name: 'limit-pids',
    kind: 'uint',
    help: 'Limit maximum number of processes (default 0 = unlimited)',
  },
  { name: 'reserve-cpu', kind: 'decimal', help: 'Reserve CPUs' },
  { name: 'reserve-memory', kind: 'bytes', help: 'Reserve memory' },
  {
    name: 'restart-condition',
    kind: 'string',
    help: 'Restart when condition is met ("none", "on-failure", "any") (default "any")',
  },
  {
    name: 'restart-delay',
    kind: 'duration',
    help: 'Delay between restart attempts (ns|us|ms|s|m|h) (default 5s)',
  },
  {
    name: 'restart-max-attempts',
    kind: 'uint',
    help: 'Maximum number of restarts before giving up',
  },
  {
    name: 'restart-window',
    kind: 'duration',
    help: 'Window used to evaluate the restart policy (ns|us|ms|s|m|h)',
  },
  { name: 'hostname', kind: 'string', help: 'Container hostname' },
  {
    name: 'user',
    short: 'u',
    kind: 'string',
    help: 'Username or UID (format: <name|uid>[:<group|gid>])',
  },
  { name: 'workdir', short: 'w', kind: 'string', help: 'Working directory inside the container' },
  {
    name: 'entrypoint',
    kind: 'string',
    value: 'command',
    help: 'Overwrite the default ENTRYPOINT of the image',
  },
  { name: 'init', kind: 'boolean', help: 'Use an init inside each service container' },
  {
    name: 'read-only',
    kind: 'boolean',
    help: "Mount the container's root filesystem as read only",
  },
  { name: 'tty', short: 't', kind: 'boolean', help: 'Allocate a pseudo-TTY' },
  { name: 'stop-signal', kind: 'string', help: 'Signal to stop the container' },
  {
    name: 'stop-grace-period',
    kind: 'duration',
    help: 'Time to wait before force killing a container (ns|us|ms|s|m|h) (default 10s)',
  },
  { name: 'health-cmd', kind: 'string', help: 'Command to run to check health' },
  {
    name: 'health-interval',
    kind: 'duration',
    help: 'Time between running the check (ns|us|ms|s|m|h) (default 30s)',
  },
  {
    name: 'health-retries',
    kind: 'uint',
    help: 'Consecutive failures needed to report unhealthy (default 3)',
  },
  {
    name: 'health-start-interval',
    kind: 'duration',
    help: 'Time between running the check during the start period (ns|us|ms|s|m|h) (default 5s)',
  },
  {
    name: 'health-start-period',
    kind: 'duration',
    help:
      'Start period for the container to initialize before counting retries towards unstable ' +
      '(ns|us|ms|s|m|h) (default 0s)',
  },
  {
    name: 'health-timeout',
    kind: 'duration',
    help: 'Maximum time to allow one check to run (ns|us|ms|s|m|h) (default 30s)',
  },
  {
    name: 'no-healthcheck',
    kind: 'boolean',
    help: 'Disable any container-specified HEALTHCHECK',
  },
  {
    name: 'endpoint-mode',
    kind: 'string',
    help: 'Endpoint mode ("vip", "dnsrr") (default "vip")',
  },
  { name: 'cap-add', kind: 'list', help: 'Add Linux capabilities' },
  { name: 'cap-drop', kind: 'list', help: 'Drop Linux capabilities' },
  {
    name: 'network',
    kind: 'list',
    value: 'network',
    help: 'Network attachments: NAME, or name=NAME,alias=ALIAS',
  },
  {
    name: 'detach',
    short: 'd',
    kind: 'boolean',
    help: 'Exit immediately instead of waiting for the service to converge',
  },
  { name: 'quiet', short: 'q', kind: 'boolean', help: 'Suppress progress output' },
]

/** A list that an update adds to and takes from. */
function listFlags(name: string, what: string, gone: { readonly value: string }): readonly Flag[] {
  return [
    { name: `${name}-add`, kind: 'list', help: `Add or update ${what}` },
    { name: `${name}-rm`, kind: 'list', value: gone.value, help: `Remove ${what}` },
  ]
}

/** Flags of `service create` that do not mean the same of a service that is there. */
const CREATE_ONLY: ReadonlySet<string> = new Set([
  'name',
  'mode',
  'publish',
  'env',
  'label',
  'container-label',
  'mount',
  'constraint',
  'placement-pref',
  'network',
])

/** The flags of `service update`. */
export const SERVICE_UPDATE_FLAGS: readonly Flag[] = [
  { name: 'image', kind: 'string', help: 'Service image tag' },
  { name: 'args', kind: 'string', value: 'command', help: 'Service command args' },
  { name: 'force', kind: 'boolean', help: 'Force update even if no changes require it' },
  { name: 'rollback', kind: 'boolean', help: 'Rollback to previous specification' },
  ...listFlags('env', 'an environment variable', { value: 'name' }),
  ...listFlags('label', 'a service label', { value: 'key' }),
  ...listFlags('container-label', 'a container label', { value: 'key' }),
  ...listFlags('publish', 'a published port', { value: 'target port' }),
  ...listFlags('network', 'a network', { value: 'network' }),
  ...listFlags('mount', 'a mount on a service', { value: 'target' }),
  ...listFlags('constraint', 'a placement constraint', { value: 'constraint' }),
  ...listFlags('placement-pref', 'a placement preference', { value: 'pref' }),
  ...SERVICE_FLAGS.filter(({ name }) => !CREATE_ONLY.has(name)),
]
