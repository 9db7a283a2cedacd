// `--plan`: what each rank will hold.
import process from "node:process";
import { type MemoryPlan, type Model, planMemory, type SizedOptions } from "@lockstep/language-model";
import { withFlags } from "./command-errors.ts";
import { formatBytes, formatTable } from "./report.ts";

/** Prints the plan of a generator's memory; returns the exit code: 2 when it does not fit. */
export function tellPlan(model: Model, options: SizedOptions): number {
  const plan = planMemory(model, options);
  process.stdout.write(`${formatPlan(plan)}\n`);
  return plan.problem === undefined ? 0 : 2;
}

/** A table of the ranks, and whether they fit, in lines for people. */
export function formatPlan(plan: MemoryPlan): string {
  const { context, mostContext, texts, ranks, totalBytes, machineBytes, isOnDevice, problem, advice } = plan;
  const header = [
    "rank",
    "weights",
    isOnDevice ? "KV on a GPU" : "KV cache",
    "activations, scratch",
    "exchanged",
    "in all",
  ];
  const rows = ranks.map(({ weights, kvCache, scratch, exchange }, rank) => [
    `${rank}`,
    formatBytes(weights),
    isOnDevice ? "not counted" : formatBytes(kvCache),
    formatBytes(scratch),
    formatBytes(exchange),
    formatBytes(weights + kvCache + scratch + exchange),
  ]);
  const room = `room for ${texts === 1 ? "a text" : `${texts} texts`} of ${context} tokens`;
  const most = mostContext === undefined ? "none fits" : `${mostContext} fit`;
  const lines = [`${room} (${most})`, formatTable(header, rows)];
  if (problem === undefined) lines.push(`fits: ${formatBytes(totalBytes)} in all, of ${formatBytes(machineBytes)}`);
  else lines.push(withFlags(`does not fit: ${problem}: ${advice}.`));
  return lines.join("\n");
}
