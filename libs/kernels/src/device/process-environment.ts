import { builtinModule } from "@lockstep/tensor";

/** Environment variables by their names. */
export type Variables = Record<string, string | undefined>;

/** The process's environment variables as the runtime sees them; none in a browser. Changes are the process's. */
export function processEnvironment(): Variables {
  return builtinModule<{ readonly env: Variables }>("node:process")?.env ?? {};
}
