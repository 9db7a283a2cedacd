import { builtinModule, RUNTIME } from "@lockstep/tensor";
import { RankCrashed } from "../errors/errors.ts";
import { printedValue } from "../errors/printed-value.ts";

/**
 * Calls `report` once when this worker is about to die: an uncaught error, an unhandled rejection, or an exit. A worker
 * that exits in Deno sends no event, so the exit functions themselves are watched.
 */
export function watchForDeath(report: (error: RankCrashed) => void, rank: number): void {
  let reported = false;
  const once = (reason: string, cause?: unknown): void => {
    if (reported) return;
    reported = true;
    report(new RankCrashed(rank, reason, cause));
  };
  // Bun tells both; whatever its events are told, it ends the worker unless the process hears of it.
  if (RUNTIME === "node" || RUNTIME === "bun") watchProcess(once);
  if (RUNTIME !== "node") watchScope(once);
  const process = builtinModule<typeof import("node:process")>("node:process");
  if (process !== undefined) watchExit(process, "exit", (code) => once(`it called process.exit(${code ?? ""})`));
  const deno: unknown = Reflect.get(globalThis, "Deno");
  if (typeof deno === "object" && deno !== null)
    watchExit(deno, "exit", (code) => once(`it called Deno.exit(${code ?? ""})`));
  watchExit(globalThis, "close", () => once("it called close()"));
}

type Report = (reason: string, cause: unknown) => void;

/** Hears of errors on the worker's global scope. */
function watchScope(once: Report): void {
  addEventListener("error", (event: Event) => {
    // The host ends the worker; by itself Deno would also print the error and end the process.
    event.preventDefault();
    const error: unknown = Reflect.get(event, "error") ?? Reflect.get(event, "message");
    once(`uncaught ${printedValue(error)}`, error);
  });
  addEventListener("unhandledrejection", (event: Event) => {
    event.preventDefault();
    const reason: unknown = Reflect.get(event, "reason");
    once(`unhandled rejection of ${printedValue(reason)}`, reason);
  });
}

/** Hears of errors of the worker's own process. The host ends the worker. */
function watchProcess(once: Report): void {
  const process = builtinModule<typeof import("node:process")>("node:process");
  process?.on("uncaughtException", (error) => once(`uncaught ${printedValue(error)}`, error));
  process?.on("unhandledRejection", (reason) => once(`unhandled rejection of ${printedValue(reason)}`, reason));
}

/** Runs `before` ahead of the function `name` of `owner`, when there is one. */
function watchExit(owner: object, name: string, before: (code: unknown) => void): void {
  const original: unknown = Reflect.get(owner, name);
  if (typeof original !== "function") return;
  const watched = (code?: unknown): unknown => {
    before(code);
    return Reflect.apply(original, owner, code === undefined ? [] : [code]);
  };
  // Some runtimes make these read-only: then only the host's own checks see the exit.
  Reflect.defineProperty(owner, name, { value: watched, configurable: true, writable: true });
}
