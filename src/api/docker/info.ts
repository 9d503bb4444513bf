/**
 * `GET /info`. The docker CLI takes from it whether this node is a manager
 * (`Swarm.ControlAvailable`), which node it is (`Swarm.NodeID`), and prints the rest. Source:
 * recorded answers 001, 201, 222, 459.
 */
import { existsSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { wallTimeText } from '../../base/clock.ts'
import type { ApiComponents } from '../ports.ts'
import { clusterJson } from './swarm.ts'
import { driverLabels } from './node.ts'

/** The whole answer. */
export function infoJson(
  components: ApiComponents,
  counted: { readonly imageCount: number },
): object {
  const description = components.describe()
  const containers = components.containerCounts()
  return {
    ID: components.swarm.status().nodeId,
    Containers: containers.total,
    ContainersRunning: containers.running,
    ContainersPaused: 0,
    ContainersStopped: containers.total - containers.running,
    Images: counted.imageCount,
    Driver: 'overlay',
    DriverStatus: [
      ['Executor', `${description.executor.name} (${description.executor.isolation})`],
      ['Executor Reason', description.executor.reason],
      ['Balancer', description.balancer.name],
      ['Balancer Reason', description.balancer.reason],
    ],
    Plugins: {
      Volume: ['local'],
      Network: ['bridge', 'host', 'overlay'],
      Authorization: null,
      Log: ['json-file'],
    },
    ...hostFacts(components),
    NCPU: Math.round(description.resources.nanoCpus / 1e9),
    MemTotal: description.resources.memoryBytes,
    Name: description.hostname,
    Labels: Object.entries({ ...description.engineLabels, ...driverLabels(description) }).map(
      ([name, value]) => `${name}=${value}`,
    ),
    ServerVersion: description.engineVersion,
    Runtimes: { [description.executor.name]: { path: description.executor.name } },
    DefaultRuntime: description.executor.name,
    OSType: description.platform.os,
    Architecture: description.platform.architecture,
    Swarm: swarmInfo(components),
    Warnings: warnings(components),
  }
}

/** What is the same for every Skein node, and what the host says. */
function hostFacts(components: ApiComponents): object {
  return {
    MemoryLimit: true,
    SwapLimit: true,
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    CPUShares: true,
    CPUSet: true,
    PidsLimit: true,
    IPv4Forwarding: true,
    Debug: false,
    OomKillDisable: false,
    SystemTime: wallTimeText(components.clock.wallMs()),
    LoggingDriver: 'json-file',
    CgroupDriver: 'cgroupfs',
    CgroupVersion: existsSync('/sys/fs/cgroup/cgroup.controllers') ? '2' : '1',
    KernelVersion: release(),
    OperatingSystem: operatingSystem(),
    IndexServerAddress: '',
    RegistryConfig: { InsecureRegistryCIDRs: [], IndexConfigs: {}, Mirrors: [] },
    GenericResources: null,
    DockerRootDir: components.dataDirectory,
    HttpProxy: '',
    HttpsProxy: '',
    NoProxy: '',
    ExperimentalBuild: false,
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: '',
    ContainerdCommit: { ID: '' },
    RuncCommit: { ID: '' },
    InitCommit: { ID: '' },
    SecurityOptions: [],
  }
}

function operatingSystem(): string {
  if (!existsSync('/etc/os-release')) return 'Linux'
  return (
    /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux'
  )
}

/** `Swarm`: state, and what only managers show. */
function swarmInfo(components: ApiComponents): object {
  const status = components.swarm.status()
  const managers = status.remoteManagers.map((manager) => ({
    NodeID: manager.nodeId,
    Addr: manager.address,
  }))
  return {
    NodeID: status.nodeId,
    NodeAddr: status.nodeAddress,
    LocalNodeState: status.state,
    ControlAvailable: status.controlAvailable,
    Error: status.error,
    RemoteManagers: managers.length === 0 ? null : managers,
    ...(status.controlAvailable ? managerInfo(components) : {}),
  }
}

function managerInfo(components: ApiComponents): object {
  const store = components.context()?.store
  const cluster = store?.cluster()
  if (store === undefined || cluster === undefined) return {}
  const nodes = store.list('nodes')
  return {
    Nodes: nodes.length,
    Managers: nodes.filter((node) => node.spec.Role === 'manager').length,
    Cluster: clusterJson(cluster),
  }
}

function warnings(components: ApiComponents): string[] | null {
  const { executor } = components.describe()
  const isPlain = executor.name === 'process'
  const found = [
    ...(isPlain ? [`tasks run as plain processes of this host: ${executor.reason}`] : []),
    ...(components.networkFaults?.() ?? []).map((fault) => `network: ${fault}`),
  ]
  return found.length === 0 ? null : found.map((text) => `WARNING: ${text}`)
}
