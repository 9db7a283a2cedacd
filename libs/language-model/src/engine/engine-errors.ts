import { ArgumentError } from "@lockstep/tensor";
import { UnfitOptions } from "../errors.ts";

/** What an engine calls otherwise than the generator whose options it fills in. */
const NAMES: Readonly<Record<string, string>> = { capacity: "maxContext", texts: "maxRunning" };
const BELOW = "Generator.open";
const OWN = "Engine.open";

/** An error about the options of a generator, as one about those of the engine. Others are themselves. */
export function asEngineError(error: unknown): unknown {
  if (error instanceof UnfitOptions) {
    const problem = error.problem
      .replace(/`(\w+)`/g, (_, name: string) => `\`${NAMES[name] ?? name}\``)
      .replace("fewer texts at a time", "a smaller `maxRunning`");
    return new UnfitOptions(problem, OWN);
  }
  if (error instanceof ArgumentError && [BELOW, "chooseWorld"].includes(error.operation)) {
    const { argument, expected, received } = error;
    return new ArgumentError(OWN, NAMES[argument] ?? argument, expected, received);
  }
  return error;
}
