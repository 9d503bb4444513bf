/**
 * The body of `POST /networks/create`. Types only: what a driver or a subnet may be is checked by
 * the command (`control/`). Source: Docker Engine API 1.50, `NetworkCreateRequest`.
 */
import { z } from 'zod'
import { SwarmError } from '../../base/errors.ts'
import type { NetworkSpec } from '../../store/spec.ts'
import { decode } from './decode.ts'

const labels = z.record(z.string(), z.string())

const range = z.looseObject({
  Subnet: z.string().exactOptional(),
  IPRange: z.string().exactOptional(),
  Gateway: z.string().exactOptional(),
  AuxiliaryAddresses: labels.exactOptional(),
})

const body = z.looseObject({
  Name: z.string(),
  Labels: labels.exactOptional(),
  Driver: z.string().exactOptional(),
  Options: labels.exactOptional(),
  Internal: z.boolean().exactOptional(),
  Attachable: z.boolean().exactOptional(),
  Ingress: z.boolean().exactOptional(),
  ConfigOnly: z.boolean().exactOptional(),
  ConfigFrom: z.looseObject({ Network: z.string().exactOptional() }).nullable().exactOptional(),
  EnableIPv4: z.boolean().exactOptional(),
  EnableIPv6: z.boolean().exactOptional(),
  Scope: z.string().exactOptional(),
  IPAM: z
    .looseObject({
      Driver: z.string().exactOptional(),
      Options: labels.exactOptional(),
      Config: z.array(range).exactOptional(),
    })
    .exactOptional(),
})

/** A network's spec. @throws INVALID_ARGUMENT, UNIMPLEMENTED for what Skein has no use for */
export function decodeNetworkSpec(value: unknown): NetworkSpec {
  const { Ingress: ingress, ConfigOnly: configOnly, ...spec } = decode(body, value)
  if (ingress === true) {
    const message = `network ${spec.Name}: there is one ingress network, and it cannot be replaced`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  if (configOnly === true) {
    const message = `network ${spec.Name}: configuration-only networks are not needed here`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  if ((spec.ConfigFrom?.Network ?? '') !== '') {
    const message = `network ${spec.Name}: settings of another network cannot be taken`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  if (spec.EnableIPv4 === false) {
    const message = `network ${spec.Name}: IPv4 cannot be switched off`
    throw new SwarmError('UNIMPLEMENTED', message)
  }
  if (spec.Name === '') throw new SwarmError('INVALID_ARGUMENT', 'network name is required')
  const { ConfigFrom: _configFrom, CheckDuplicate: _checkDuplicate, ...known } = spec
  return known
}
