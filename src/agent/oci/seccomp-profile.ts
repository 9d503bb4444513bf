/**
 * Which system calls a container may make: data only; `seccomp.ts` turns it into the OCI form. The
 * rule is an allow list; what is absent fails with EPERM. Written by subsystem from the kernel's
 * own table (`syscalls(2)`), leaving out what reaches the whole machine (modules, mounts, clocks,
 * keyrings, kexec, swap, raw I/O, BPF, userfaultfd, io_uring, NUMA policy) unless a capability says
 * otherwise: the same line that Docker's default draws, so that images behave alike.
 */

/** A set of calls and when they are allowed. */
export interface SyscallGroup {
  readonly about: string
  readonly names: string
  /** Needs any one of these capabilities. */
  readonly capabilities?: readonly string[]
  /** Only on these (Node's `process.arch`). */
  readonly architectures?: readonly string[]
}

/** Calls that are allowed whatever their arguments. */
export const SYSCALL_GROUPS: readonly SyscallGroup[] = [
  {
    about: 'opening, reading, writing files',
    names: `close close_range copy_file_range creat dup dup2 dup3 fadvise64 fadvise64_64 fallocate
      fcntl fcntl64 fdatasync flock fsync ftruncate ftruncate64 ioctl _llseek lseek open openat
      openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile
      sendfile64 splice sync sync_file_range syncfs tee truncate truncate64 vmsplice write writev
      cachestat`,
  },
  {
    about: 'names, directories, attributes',
    names: `access chdir chmod chown chown32 faccessat faccessat2 fchdir fchmod fchmodat fchmodat2
      fchown fchown32 fchownat fgetxattr flistxattr fremovexattr fsetxattr fstat fstat64 fstatat64
      fstatfs fstatfs64 futimesat getcwd getdents getdents64 getxattr getxattrat lchown lchown32
      lgetxattr link linkat listxattr listxattrat llistxattr lremovexattr lsetxattr lstat lstat64
      mkdir mkdirat mknod mknodat name_to_handle_at newfstatat readdir readlink readlinkat
      removexattr removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat stat64
      statfs statfs64 statx symlink symlinkat umask unlink unlinkat ustat utime utimensat
      utimensat_time64 utimes statmount listmount`,
  },
  {
    about: 'waiting for files',
    names: `_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
      epoll_wait epoll_wait_old eventfd eventfd2 inotify_add_watch inotify_init inotify_init1
      inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup
      io_submit poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4
      fanotify_mark pipe pipe2`,
  },
  {
    about: 'memory',
    names: `brk madvise map_shadow_stack memfd_create memfd_secret mincore mlock mlock2 mlockall
      mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free
      pkey_mprotect
      process_mrelease remap_file_pages membarrier`,
  },
  {
    about: 'processes and threads',
    names: `arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue
      futex_time64 futex_wait futex_waitv futex_wake get_robust_list get_thread_area getcpu getpgid
      getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid getitimer ioprio_get
      ioprio_set kill landlock_add_rule landlock_create_ruleset landlock_restrict_self
      lsm_get_self_attr lsm_list_modules lsm_set_self_attr nice pause pidfd_open pidfd_send_signal
      prctl prlimit64 ptrace process_vm_readv process_vm_writev restart_syscall rseq
      sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
      sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
      sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list
      set_thread_area set_tid_address setpgid setpriority setrlimit setsid tgkill time times tkill
      ugetrlimit uname uretprobe vfork wait4 waitid waitpid sysinfo`,
  },
  {
    about: 'identity',
    names: `getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid
      getresgid32 getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32
      setgid setgid32 setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid
      setresuid32 setreuid setreuid32 setuid setuid32`,
  },
  {
    about: 'signals',
    names: `rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
      rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal
      sigpending sigprocmask sigreturn sigsuspend alarm`,
  },
  {
    about: 'time, read only, and timers',
    names: `adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
      clock_gettime64 clock_nanosleep clock_nanosleep_time64 gettimeofday nanosleep setitimer
      timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
      timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
      timerfd_settime64`,
  },
  {
    about: 'sockets; socket() itself is below',
    names: `accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom
      recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall
      socketpair`,
  },
  {
    about: 'System V and POSIX interprocess communication',
    names: `ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
      mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
      semtimedop_time64 shmat shmctl shmdt shmget`,
  },
  { about: 'randomness', names: 'getrandom' },
  { about: 'x86', names: 'modify_ldt', architectures: ['x64', 'ia32'] },
  {
    about: 'ARM',
    names: 'arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls',
    architectures: ['arm', 'arm64'],
  },
  { about: 'RISC-V', names: 'riscv_flush_icache riscv_hwprobe', architectures: ['riscv64'] },
  {
    about: 'System z',
    names: 's390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr',
    architectures: ['s390x'],
  },
  { about: 'PowerPC', names: 'sync_file_range2 swapcontext', architectures: ['ppc64'] },
  {
    about: 'handles past permissions',
    names: 'open_by_handle_at',
    capabilities: ['CAP_DAC_READ_SEARCH'],
  },
  {
    about: 'administration',
    names: `bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount
      mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname
      sethostname setns syslog umount umount2 unshare`,
    capabilities: ['CAP_SYS_ADMIN'],
  },
  { about: 'restarting the machine', names: 'reboot', capabilities: ['CAP_SYS_BOOT'] },
  { about: 'changing the root', names: 'chroot', capabilities: ['CAP_SYS_CHROOT'] },
  {
    about: 'kernel modules',
    names: 'delete_module finit_module init_module',
    capabilities: ['CAP_SYS_MODULE'],
  },
  { about: 'process accounting', names: 'acct', capabilities: ['CAP_SYS_PACCT'] },
  {
    about: 'looking into other processes',
    names: 'kcmp pidfd_getfd process_madvise',
    capabilities: ['CAP_SYS_PTRACE'],
  },
  { about: 'raw I/O', names: 'ioperm iopl', capabilities: ['CAP_SYS_RAWIO'] },
  {
    about: 'setting clocks',
    names: 'clock_settime clock_settime64 settimeofday stime',
    capabilities: ['CAP_SYS_TIME'],
  },
  { about: 'terminals', names: 'vhangup', capabilities: ['CAP_SYS_TTY_CONFIG'] },
  {
    about: 'memory placement',
    names: 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node',
    capabilities: ['CAP_SYS_NICE'],
  },
  { about: 'the kernel log', names: 'syslog', capabilities: ['CAP_SYSLOG'] },
  { about: 'BPF', names: 'bpf', capabilities: ['CAP_BPF'] },
  { about: 'tracing', names: 'perf_event_open', capabilities: ['CAP_PERFMON'] },
]

/** Values of personality(2) that cannot weaken a process: Linux, 32-bit uname, both, and "ask". */
export const PERSONALITIES: readonly number[] = [0x0, 0x8, 0x20000, 0x20008, 0xffffffff]

/** All CLONE_NEW… flags: a container without CAP_SYS_ADMIN may make processes, not namespaces. */
export const CLONE_NAMESPACE_FLAGS = 0x7e020000

/** AF_VSOCK: reaches the hypervisor past every network namespace. */
export const ADDRESS_FAMILY_VSOCK = 40
