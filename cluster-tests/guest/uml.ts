/**
 * The `uml` tier: Debian's User Mode Linux. One processor, a boot of two seconds, real IPVS, network
 * namespaces and devices; no nftables for IP. Needs ptrace and as much of /dev/shm as the guest has
 * memory, no privileges.
 */
import { accessSync, constants } from 'node:fs'
import { ControlFolder, GuestError, MEMORY_MIB, TIMEOUT_MS } from './guest-run.ts'
import type { GuestResult, GuestRun } from './guest-run.ts'
import { runMachine } from './machine.ts'

const KERNEL = '/usr/bin/linux.uml'
/** Spares the kernel measuring how fast it counts, which differs under load anyhow. */
const LOOPS_PER_JIFFY = 12_000_000
/** Descriptors of standard output and error of the guest's command, and of its console. */
const [OUT, ERR, CONSOLE] = [3, 4, 5] as const

/** Why there is no such guest here; undefined when there is. */
export function missingUml(): string | undefined {
  try {
    accessSync(KERNEL, constants.X_OK)
    return undefined
  } catch {
    return `${KERNEL} is missing: install the package user-mode-linux`
  }
}

/** Runs a command in a new User Mode Linux. @throws GuestError */
export async function runInUml(run: GuestRun): Promise<GuestResult> {
  using control = new ControlFolder(run, ['uml-init.sh', 'session.sh'])
  const { timeoutMs = TIMEOUT_MS } = run
  const { isTimedOut, words, pipes } = await runMachine({
    command: [KERNEL, ...kernelArguments(run, control)],
    environment: { PATH: '/usr/bin:/bin', HOME: '/root', TERM: 'dumb' },
    pipes: 3,
    timeoutMs,
  })
  const [stdout = '', stderr = '', console = ''] = pipes
  const { status } = control
  if (status !== undefined) return { status, stdout, stderr }
  const what = isTimedOut ? `did not end within ${timeoutMs} ms` : 'ended without a status'
  throw new GuestError(`uml guest: ${what}\n${words}\n${console}\n${stdout}\n${stderr}`)
}

function kernelArguments(run: GuestRun, control: ControlFolder): string[] {
  return [
    ...['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro'],
    `mem=${run.memoryMib ?? MEMORY_MIB}M`,
    ...['umid=guest', `uml_dir=${control.path}/`],
    ...[`init=${control.file('uml-init.sh')}`, `skein_control=${control.path}`],
    ...['con=null', `con0=null,fd:${CONSOLE}`],
    ...['ssl=null', `ssl0=null,fd:${OUT}`, `ssl1=null,fd:${ERR}`],
    ...['loglevel=4', 'noreboot', `lpj=${LOOPS_PER_JIFFY}`],
  ]
}
