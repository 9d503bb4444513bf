/** Everything that the core finds worth telling. */
export interface CoreEvent { readonly type: string }
