/** Images as Docker's API shows them. Source: recorded answers 010, 023. */
import type { ImageSummary } from '../../image/ports.ts'
import { goArchitecture } from './version.ts'

/** One element of `GET /images/json`. */
export function imageJson(image: ImageSummary): object {
  return {
    Containers: -1,
    Created: Math.floor(Date.parse(image.createdAt) / 1000) || 0,
    Id: image.id,
    Labels: Object.keys(image.labels).length === 0 ? null : image.labels,
    ParentId: '',
    RepoDigests: repositoryDigests(image),
    RepoTags: image.tags,
    SharedSize: -1,
    Size: image.sizeBytes,
  }
}

/** `GET /images/{name}/json`. */
export function imageInspectJson(image: ImageSummary): object {
  return {
    Id: image.id,
    RepoTags: image.tags,
    RepoDigests: repositoryDigests(image),
    Parent: '',
    Comment: '',
    Created: image.createdAt,
    Author: '',
    Architecture: goArchitecture(image.platform.architecture),
    ...(image.platform.variant === undefined ? {} : { Variant: image.platform.variant }),
    Os: image.platform.os,
    Size: image.sizeBytes,
    Config: { Labels: image.labels },
    RootFS: { Type: 'layers' },
    Metadata: { LastTagTime: '0001-01-01T00:00:00Z' },
  }
}

/** The repository of a reference: without tag and digest. */
export function repositoryOf(reference: string): string {
  return reference.replace(/@.*$/, '').replace(/:[^:/]*$/, '')
}

function repositoryDigests(image: ImageSummary): string[] {
  return [...new Set(image.tags.map((tag) => `${repositoryOf(tag)}@${image.digest}`))]
}
