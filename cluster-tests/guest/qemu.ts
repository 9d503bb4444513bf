/**
 * The `qemu` tier: a stock Debian kernel in QEMU, two processors, IPVS and nftables. Both programs
 * are unpacked into a cache folder, nothing is installed. Where /dev/kvm brings up a guest, which is
 * tried once and remembered with the packages, it is used; else QEMU emulates: a boot takes 10 s,
 * programs run three to ten times slower.
 */
import { execFileSync } from 'node:child_process'
import {
  accessSync,
  constants,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { ControlFolder, GuestError, MEMORY_MIB, TIMEOUT_MS } from './guest-run.ts'
import type { GuestResult, GuestRun } from './guest-run.ts'
import { runMachine } from './machine.ts'

const PROJECT = join(import.meta.dirname, '../..')
const CACHE = join(PROJECT, 'node_modules/.cache/skein-guest')
const ROOT = join(CACHE, 'root')
const BUSYBOX = '/bin/busybox'
const FETCH_TIMEOUT_MS = 240_000
/** What the initial RAM disk needs to reach the host's files; each brings what it depends on. */
const BOOT_MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay']
const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What runs the guest's instructions. */
interface Processor {
  readonly accelerator: string
  readonly model: string
}

const KVM: Processor = { accelerator: 'kvm', model: 'host' }
/** Without protection keys, which V8 changes so often that little else is emulated. */
const EMULATED: Processor = { accelerator: 'tcg,thread=multi', model: 'max,pku=off' }
const KVM_TRIAL_MS = 30_000

/** Why there is no such guest here; undefined when there is. Fetches the packages if need be. */
export function missingQemu(): string | undefined {
  if (process.arch !== 'x64') return `the qemu tier has no kernel for ${process.arch}`
  if (!existsSync(BUSYBOX)) return `${BUSYBOX} is missing: install the package busybox-static`
  try {
    execFileSync('sh', [join(import.meta.dirname, 'qemu-fetch.sh'), CACHE], {
      env: { PATH: SYSTEM_PATH, HOME: CACHE },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: FETCH_TIMEOUT_MS,
    })
    return undefined
  } catch (error) {
    return `QEMU and a kernel could not be fetched: ${error instanceof Error ? error.message : ''}`
  }
}

/** Runs a command in a new QEMU guest. @throws GuestError */
export async function runInQemu(run: GuestRun): Promise<GuestResult> {
  return runWith(await processorHere(), run)
}

async function processorHere(): Promise<Processor> {
  const { SKEIN_GUEST_ACCEL: accelerator, SKEIN_GUEST_CPU: model } = process.env
  const known = join(CACHE, 'processor')
  const isAsked = accelerator !== undefined || model !== undefined
  if (!isAsked && !existsSync(known)) writeFileSync(known, (await hasKvm()) ? 'kvm' : 'emulated')
  const usual = !isAsked && readFileSync(known, 'utf8') === 'kvm' ? KVM : EMULATED
  return { accelerator: accelerator ?? usual.accelerator, model: model ?? usual.model }
}

/** Whether a guest comes up with KVM. Some machines have the device, and guests die at once. */
async function hasKvm(): Promise<boolean> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    const trial = { tier: 'qemu', command: ['true'], timeoutMs: KVM_TRIAL_MS } as const
    return (await runWith(KVM, trial)).status === 0
  } catch {
    // No device, or no guest: emulation it is.
    return false
  }
}

async function runWith(processor: Processor, run: GuestRun): Promise<GuestResult> {
  const release = readFileSync(join(CACHE, 'complete'), 'utf8').trim()
  const initrd = initialRamDisk(release)
  using control = new ControlFolder(run, ['session.sh'])
  control.write('module-folder', `${moduleFolder(release)}\n`)
  const { timeoutMs = TIMEOUT_MS } = run
  const { isTimedOut, words } = await runMachine({
    command: [
      ...program(),
      ...machine(run, control, processor),
      ...kernel(release, initrd, control),
    ],
    environment: {
      PATH: SYSTEM_PATH,
      LD_LIBRARY_PATH: `${ROOT}/usr/lib/x86_64-linux-gnu:${ROOT}/lib/x86_64-linux-gnu`,
    },
    pipes: 0,
    timeoutMs,
  })
  const [stdout, stderr] = [control.read('stdout'), control.read('stderr')]
  const { status } = control
  if (status !== undefined) return { status, stdout, stderr }
  const what = isTimedOut ? `did not end within ${timeoutMs} ms` : 'ended without a status'
  const console = control.read('console')
  throw new GuestError(`qemu guest: ${what}\n${words}\n${console}\n${stdout}\n${stderr}`)
}

function program(): string[] {
  const firmware = ['-L', `${ROOT}/usr/share/qemu`, '-L', `${ROOT}/usr/share/seabios`]
  return [`${ROOT}/usr/bin/qemu-system-x86_64`, ...firmware]
}

function machine(run: GuestRun, control: ControlFolder, processor: Processor): string[] {
  const shared = (run.writable ?? []).flatMap((path, index) => share(`writable${index}`, path))
  return [
    ...['-accel', processor.accelerator, '-cpu', processor.model, '-smp', '2'],
    ...['-m', `${run.memoryMib ?? MEMORY_MIB}`],
    ...['-nodefaults', '-display', 'none', '-no-reboot', '-monitor', 'none'],
    ...['-serial', `file:${control.file('console')}`, '-device', 'virtio-serial-pci'],
    ...outputPort('stdout', control),
    ...outputPort('stderr', control),
    ...share('host', '/', ',readonly=on,multidevs=remap'),
    ...share('control', control.path),
    ...shared,
  ]
}

function outputPort(name: string, control: ControlFolder): string[] {
  const backend = `file,id=${name},path=${control.file(name)}`
  return ['-chardev', backend, '-device', `virtserialport,chardev=${name},name=${name}`]
}

function share(tag: string, path: string, more = ''): string[] {
  const backend = `local,id=${tag},path=${path},security_model=none${more}`
  return ['-fsdev', backend, '-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`]
}

function kernel(release: string, initrd: string, control: ControlFolder): string[] {
  const words = `console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable no_timer_check`
  const image = join(ROOT, 'boot', `vmlinuz-${release}`)
  if (!existsSync(image)) throw new GuestError(`qemu guest: ${image} is missing (${control.path})`)
  return ['-kernel', image, '-initrd', initrd, '-append', words]
}

function moduleFolder(release: string): string {
  const usual = join(ROOT, 'lib/modules', release)
  return existsSync(usual) ? usual : join(ROOT, 'usr/lib/modules', release)
}

/** A RAM disk of busybox, a few modules and the init script; made once per kernel and script. */
function initialRamDisk(release: string): string {
  const path = join(CACHE, `initrd-${release}.gz`)
  const script = join(import.meta.dirname, 'qemu-init.sh')
  const known = join(CACHE, 'qemu-init.sh')
  if (
    existsSync(path) &&
    existsSync(known) &&
    readFileSync(known, 'utf8') === readFileSync(script, 'utf8')
  ) {
    return path
  }
  const folder = mkdtempSync(join(CACHE, 'initrd-'))
  try {
    for (const name of ['bin', 'modules']) mkdirSync(join(folder, name))
    copyFileSync(BUSYBOX, join(folder, 'bin/busybox'))
    copyFileSync(script, join(folder, 'init'))
    for (const [index, module] of bootModules(release).entries()) {
      const name = `${String(index).padStart(2, '0')}-${basename(module)}`
      copyFileSync(module, join(folder, 'modules', name))
    }
    const pack = 'chmod 755 init bin/busybox && find . | busybox cpio -o -H newc | gzip -1'
    const bytes = execFileSync('sh', ['-c', pack], {
      cwd: folder,
      maxBuffer: 64 << 20,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    // Under another name first: another process may be reading it.
    writeFileSync(`${path}.${process.pid}`, bytes)
    renameSync(`${path}.${process.pid}`, path)
    copyFileSync(script, known)
    return path
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Paths of the modules, each after those that it depends on. */
function bootModules(release: string): string[] {
  const base = moduleFolder(release).replace(/\/lib\/modules\/.*$/, '')
  const found = BOOT_MODULES.flatMap((module) =>
    execFileSync('modprobe', ['-d', base, '-S', release, '--show-depends', module], {
      encoding: 'utf8',
      env: { PATH: SYSTEM_PATH },
    })
      .split('\n')
      .filter((line) => line.startsWith('insmod '))
      .map((line) => line.split(' ')[1] ?? ''),
  )
  return [...new Set(found)]
}
