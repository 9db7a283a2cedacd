// `--plan`: what each rank will hold.
import process from "node:process";
import { type GeneratorOptions, type MemoryPlan, type Model, planMemory, planWorlds } from "@lockstep/language-model";
import { withFlags } from "./command-errors.ts";
import { formatBytes, formatTable } from "./report.ts";

/**
 * Prints the plan of a generator's memory, where the number of ranks is to be chosen that of each that may be; returns
 * the exit code: 2 when it does not fit. Opens nothing.
 */
export function tellPlan(model: Model, options: GeneratorOptions): number {
  const { world } = options;
  if (world !== "auto") {
    const plan = planMemory(model, { ...options, world });
    process.stdout.write(`${formatPlan(plan)}\n`);
    return plan.problem === undefined ? 0 : 2;
  }
  const plans = planWorlds(model, options);
  for (const { sizes, plan } of plans) {
    process.stdout.write(`TP${sizes.world} DCP${sizes.dcp}, KV heads ${sizes.kvLayout}: ${formatPlan(plan)}\n\n`);
  }
  const fits = plans.every(({ plan }) => plan.problem === undefined);
  const these = plans.length === 1 ? "this" : "one of these, which some steps of each tell when they run";
  process.stdout.write(`world auto: ${fits ? these : "nothing fits"}\n`);
  return fits ? 0 : 2;
}

/** A table of the ranks, and whether they fit, in lines for people. */
export function formatPlan(plan: MemoryPlan): string {
  const { context, mostContext, texts, kvWeights, ranks, totalBytes, machineBytes, isOnDevice, problem, advice } = plan;
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
  const isEven = kvWeights.every((weight) => weight === 1);
  const dealt = isEven ? "" : `, dealt ${kvWeights.join(", ")} to the ranks that share them`;
  const most = mostContext === undefined ? "none fits" : `${mostContext} fit`;
  const lines = [`${room} (${most})${dealt}`, formatTable(header, rows)];
  if (problem === undefined) lines.push(`fits: ${formatBytes(totalBytes)} in all, of ${formatBytes(machineBytes)}`);
  else lines.push(withFlags(`does not fit: ${problem}: ${advice}.`));
  return lines.join("\n");
}
