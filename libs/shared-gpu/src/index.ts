/**
 * Ranks that share one GPU, whose device one of them holds. Begin with {@link openSharedBackend}.
 *
 * @module @lockstep/shared-gpu
 */
export { CallsDiffer, FenceFailed, FencesDiffer } from "./errors.ts";
export { openSharedBackend, type SharedBackendOptions } from "./shared-backend.ts";
