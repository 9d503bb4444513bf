/** `GET /version`. Source: recorded answer 000. */
import { release } from 'node:os'
import type { NodeDescription } from '../../store/objects.ts'
import { API_VERSION_MAX, API_VERSION_MIN } from '../version.ts'

/** Go's name of an architecture, which images and `docker version` use. */
export function goArchitecture(architecture: string): string {
  switch (architecture) {
    case 'x86_64':
      return 'amd64'
    case 'aarch64':
      return 'arm64'
    case 'i686':
      return '386'
    case 'armv7l':
    case 'armv6l':
      return 'arm'
    default:
      return architecture
  }
}

/** Skein has no Go and no build: those members are empty, or name Node's version. */
export function versionJson(description: NodeDescription): object {
  const common = {
    ApiVersion: API_VERSION_MAX,
    MinAPIVersion: API_VERSION_MIN,
    GitCommit: '',
    GoVersion: `node ${process.version}`,
    Os: description.platform.os,
    Arch: goArchitecture(description.platform.architecture),
    KernelVersion: release(),
    BuildTime: '',
  }
  return {
    Platform: { Name: 'Skein' },
    Components: [
      {
        Name: 'Engine',
        Version: description.engineVersion,
        Details: { ...common, Experimental: 'false' },
      },
      {
        Name: 'executor',
        Version: description.executor.name,
        Details: { Isolation: description.executor.isolation, Reason: description.executor.reason },
      },
      {
        Name: 'balancer',
        Version: description.balancer.name,
        Details: { Reason: description.balancer.reason },
      },
    ],
    Version: description.engineVersion,
    ...common,
  }
}
