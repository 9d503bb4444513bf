/** `skein info` */
import { CommandError, FORMAT_FLAG } from '../command.ts'
import type { Command } from '../command.ts'
import { memoryText } from '../human.ts'
import { packageVersion } from '../package-version.ts'
import { SwarmApi } from '../swarm-api.ts'
import type { InfoJson } from '../swarm-api.ts'

/** `info` */
export const info: Command = {
  usage: '[OPTIONS]',
  short: 'Display system-wide information',
  minimum: 0,
  maximum: 0,
  flags: [{ ...FORMAT_FLAG, help: "Format output: 'json'" }],
  async run({ client, console }, given) {
    const format = given.text('format')
    if (format !== undefined && format !== 'json') {
      throw new CommandError('Go templates are not supported: use --format json')
    }
    const answer = await new SwarmApi(client).info()
    if (format === 'json') {
      console.write(`${JSON.stringify(answer)}\n`)
      return 0
    }
    console.write(`${infoLines(answer).join('\n')}\n`)
    for (const warning of answer.Warnings ?? []) console.writeError(`${warning}\n`)
    return 0
  },
}

/** Docker's layout, with what Skein has: how it runs tasks and balances, and why so. */
function infoLines(answer: InfoJson): string[] {
  return [
    'Client:',
    ` Version:    ${packageVersion()}`,
    '',
    'Server:',
    ` Containers: ${answer.Containers}`,
    `  Running: ${answer.ContainersRunning}`,
    `  Stopped: ${answer.ContainersStopped}`,
    ` Images: ${answer.Images}`,
    ` Server Version: ${answer.ServerVersion}`,
    ...answer.DriverStatus.map(driverLine),
    ` Cgroup Version: ${answer.CgroupVersion}`,
    ...swarmLines(answer.Swarm).map((line) => ` ${line}`),
    ` Kernel Version: ${answer.KernelVersion}`,
    ` Operating System: ${answer.OperatingSystem}`,
    ` OSType: ${answer.OSType}`,
    ` Architecture: ${answer.Architecture}`,
    ` CPUs: ${answer.NCPU}`,
    ` Total Memory: ${memoryText(answer.MemTotal)}`,
    ` Name: ${answer.Name}`,
    ` Data Directory: ${answer.DockerRootDir}`,
  ]
}

/** A driver, and indented under it the reason for it. */
function driverLine([name, value]: readonly [string, string]): string {
  return name.endsWith(' Reason') ? `  Reason: ${value}` : ` ${name}: ${value}`
}

function swarmLines(swarm: InfoJson['Swarm']): string[] {
  const lines = [`Swarm: ${swarm.LocalNodeState}`]
  if (swarm.NodeID === '') return lines
  lines.push(` NodeID: ${swarm.NodeID}`)
  if (swarm.Error !== '') lines.push(` Error: ${swarm.Error}`)
  lines.push(` Is Manager: ${swarm.ControlAvailable}`)
  if (swarm.Cluster !== undefined) {
    lines.push(
      ` ClusterID: ${swarm.Cluster.ID}`,
      ` Managers: ${swarm.Managers ?? 0}`,
      ` Nodes: ${swarm.Nodes ?? 0}`,
    )
  }
  lines.push(` Node Address: ${swarm.NodeAddr}`, ' Manager Addresses:')
  for (const manager of swarm.RemoteManagers ?? []) lines.push(`  ${manager.Addr}`)
  return lines
}
