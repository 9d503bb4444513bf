/**
 * Turns `seccomp-profile.ts` into the OCI form for one architecture and one set of capabilities.
 */
import {
  ADDRESS_FAMILY_VSOCK,
  CLONE_NAMESPACE_FLAGS,
  PERSONALITIES,
  SYSCALL_GROUPS,
} from './seccomp-profile.ts'
import type { SyscallGroup } from './seccomp-profile.ts'

const EPERM = 1
const ENOSYS = 38

/** One rule in the OCI runtime specification's form. */
export interface SeccompRule {
  readonly names: readonly string[]
  readonly action: string
  readonly errnoRet?: number
  readonly args?: readonly {
    readonly index: number
    readonly value: number
    readonly valueTwo?: number
    readonly op: string
  }[]
}

/** `linux.seccomp` of the OCI runtime specification. */
export interface SeccompFilter {
  readonly defaultAction: string
  readonly defaultErrnoRet: number
  readonly architectures: readonly string[]
  readonly syscalls: readonly SeccompRule[]
}

/** The machine's own architecture and the 32-bit one that its kernel also runs. */
const ARCHITECTURES: Readonly<Record<string, readonly string[]>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
  ia32: ['SCMP_ARCH_X86'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
  arm: ['SCMP_ARCH_ARM'],
  riscv64: ['SCMP_ARCH_RISCV64'],
  s390x: ['SCMP_ARCH_S390X'],
  ppc64: ['SCMP_ARCH_PPC64LE'],
}

/** Makes the filter; undefined on an architecture that libseccomp has no name for. */
export function seccompFilter(
  capabilities: readonly string[],
  architecture: string,
): SeccompFilter | undefined {
  const architectures = ARCHITECTURES[architecture]
  if (architectures === undefined) return undefined
  const held = new Set(capabilities)
  const names = new Set<string>()
  for (const group of SYSCALL_GROUPS) {
    if (applies(group, held, architecture)) {
      for (const name of group.names.split(/\s+/)) names.add(name)
    }
  }
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    architectures,
    syscalls: [
      { names: [...names].toSorted(), action: 'SCMP_ACT_ALLOW' },
      ...argumentRules(),
      ...(held.has('CAP_SYS_ADMIN') ? [] : cloneRules(architecture)),
    ],
  }
}

function applies(group: SyscallGroup, held: ReadonlySet<string>, architecture: string): boolean {
  if (group.architectures !== undefined && !group.architectures.includes(architecture)) {
    return false
  }
  return group.capabilities === undefined || group.capabilities.some((name) => held.has(name))
}

function argumentRules(): SeccompRule[] {
  return [
    ...PERSONALITIES.map((value) => ({
      names: ['personality'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value, op: 'SCMP_CMP_EQ' }],
    })),
    {
      names: ['socket'],
      action: 'SCMP_ACT_ALLOW',
      args: [{ index: 0, value: ADDRESS_FAMILY_VSOCK, op: 'SCMP_CMP_NE' }],
    },
  ]
}

/** clone(2) without new namespaces; clone3(2) hides its flags in memory, so libc must fall back. */
function cloneRules(architecture: string): SeccompRule[] {
  const flagsIndex = architecture === 's390x' ? 1 : 0
  return [
    {
      names: ['clone'],
      action: 'SCMP_ACT_ALLOW',
      args: [
        { index: flagsIndex, value: CLONE_NAMESPACE_FLAGS, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' },
      ],
    },
    { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
  ]
}
