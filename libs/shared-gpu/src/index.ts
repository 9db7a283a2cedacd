export { openSharedBackend, type SharedBackendOptions } from "./shared-backend.ts";
