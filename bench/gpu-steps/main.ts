// `bun run bench:gpu-steps`: whole decode steps (query gather, attention over a short context, combine) of ranks that
// have a GPU each, that open the same GPU, or that share one device, beside the same transfers alone and recorded times
// with NCCL.
import { openWorld } from "@lockstep/dist-groups";
import { installedGpus, openBackend } from "@lockstep/kernels";
import { SharedHeap } from "@lockstep/tensor";
import { readCommandLine, refuseCommand } from "../../scripts/command-line.ts";
import { exitWithMessage } from "../exit-with-message.ts";
import { printTable } from "../print-table.ts";
import type * as program from "./program.ts";
import type { Overlap, StepFigures, StepOptions } from "./program.ts";
import {
  LARGE_SHAPES,
  type OperandPlace,
  recordedNccl,
  SMALL_SHAPES,
  STEP_SHAPES,
  type StepPlaces,
  type StepShape,
  transferBytes,
} from "./step-shapes.ts";

const NAME = "bench:gpu-steps";
const { values: options } = readCommandLine({
  name: NAME,
  does: "Times whole decode steps of ranks with a GPU each, or that share GPUs, and their transfers alone.",
  options: {
    ranks: { type: "string", default: "2,4", takes: "N,N", help: "numbers of ranks" },
    gpus: { type: "string", default: "", takes: "N", help: "GPUs to use (default: all)" },
    results: { type: "string", default: "heap,GPU", takes: "heap,GPU", help: "where results are wanted" },
    length: { type: "string", default: "", takes: "N", help: "tokens of each sequence (default: 64)" },
    overlap: { type: "string", default: "off", takes: "off,on", help: "steps whole, by overlapped halves, or both" },
    large: {
      type: "boolean",
      default: false,
      help: "B1024 H32 and B256 H128 instead, which exchange tens of megabytes",
    },
    json: { type: "boolean", default: false, help: "figures as JSON" },
    software: { type: "boolean", default: false, help: "a small shape on software Vulkan, to check the bench" },
  },
});

function gpuCount(): number {
  try {
    const installed = Math.max(1, installedGpus().length);
    return options.gpus === "" ? installed : (counts("gpus", options.gpus, installed)[0] ?? 1);
  } catch (error) {
    return exitWithMessage(NAME, error);
  }
}

/** How the ranks of a row have their GPUs. */
interface Placement extends StepPlaces {
  readonly gpus: number | undefined;
  readonly overlap: Overlap;
}

interface StepReport {
  readonly shape: string;
  /** Dtype of the partial outputs that are exchanged. */
  readonly partials: string;
  readonly ranks: number;
  readonly placement: string;
  readonly queries: OperandPlace;
  readonly results: OperandPlace;
  readonly overlap: Overlap;
  readonly device: string;
  readonly microseconds: number;
  readonly gatherUs: number;
  readonly attentionUs: number;
  readonly combineUs: number;
  readonly combine: string;
  readonly transfersUs: number;
  /** What must cross in a step, on the rank that carries most. */
  readonly megabytesUp: number;
  readonly megabytesDown: number;
  /** What was mapped in a step, on the rank that mapped most. */
  readonly megabytesMapped: number;
  readonly ncclUs: number | undefined;
}

const TOLERANCE = { f32: 1e-3, f16: 1e-3, bf16: 8e-3 } as const;
const gpus = gpuCount();
const overlaps = overlapWays(options.overlap);
const shapes = (options.software ? SMALL_SHAPES : options.large ? LARGE_SHAPES : STEP_SHAPES).map(
  (shape): StepShape => {
    if (options.length === "") return shape;
    // What NCCL took was recorded beside no attention: it stays.
    return { ...shape, length: counts("length", options.length, 1 << 20)[0] ?? shape.length };
  },
);
const seconds = options.software ? 0.2 : 0.7;
const reports: StepReport[] = [];
/** Outputs of a shape by a number of ranks: the same bits wherever the ranks compute, by where they are combined. */
const outputs = new Map<string, Float32Array>();

try {
  const worlds = counts("ranks", options.ranks, 64);
  const places = operandPlaces(options.results);
  await expectGpu();
  await measureAlone();
  for (const ranks of worlds) await measureAll(ranks, places);
} catch (error) {
  exitWithMessage(NAME, error);
}
if (options.json) console.log(JSON.stringify({ gpus, reports }, null, 1));
else print();

async function measureAll(ranks: number, places: readonly OperandPlace[]): Promise<void> {
  await expectedOnCpu(ranks);
  const one = gpus > 1 ? 1 : undefined;
  const placements: Placement[] = places.flatMap((results) => {
    const step = { ranks, queries: "heap", results } as const;
    return [
      ...overlaps.flatMap((overlap): Placement[] => [
        ...(gpus > 1 ? [{ ...step, sharing: "own devices", gpus, overlap } as const] : []),
        { ...step, sharing: "own devices", gpus: one, overlap },
      ]),
      // What nothing crosses the host for, where it is wanted on the GPU. Ranks that share a device cut nothing.
      { ...step, queries: results, sharing: "shared device", gpus: one, overlap: "off" },
    ];
  });
  for (const placement of placements) reports.push(...(await measure(placement)));
}

/** One rank that holds the whole context and attends for all heads, on one GPU, which nothing leaves. */
async function measureAlone(): Promise<void> {
  await expectedOnCpu(1);
  const placement = { ranks: 1, sharing: "shared device", queries: "GPU", results: "GPU", overlap: "off" } as const;
  reports.push(...(await measure({ ...placement, gpus: gpus > 1 ? 1 : undefined })));
}

/** Whole numbers from 1 to `most`, between commas. */
function counts(option: string, text: string, most: number): number[] {
  return text.split(",").map((part) => {
    if (/^\d+$/.test(part) && Number(part) >= 1 && Number(part) <= most) return Number(part);
    return refuseCommand(NAME, `--${option} must be whole numbers from 1 to ${most}, between commas, but is ${part}`);
  });
}

/** Places between commas. */
function operandPlaces(text: string): OperandPlace[] {
  return text.split(",").map((part) => {
    if (part === "heap" || part === "GPU") return part;
    return refuseCommand(NAME, `--results must be heap, GPU or both, between commas, but is ${part}`);
  });
}

/** Ways between commas. */
function overlapWays(text: string): Overlap[] {
  return text.split(",").map((part) => {
    if (part === "off" || part === "on") return part;
    return refuseCommand(NAME, `--overlap must be off, on or both, between commas, but is ${part}`);
  });
}

/** Throws what to install where there is no GPU, before anything takes long. */
async function expectGpu(): Promise<void> {
  const adapter = options.software ? "software" : "hardware";
  await (await openBackend("webgpu", { heap: SharedHeap.create(1 << 16), adapter })).close();
}

function openBenchWorld(ranks: number, rankOptions: StepOptions) {
  return openWorld<typeof program>({
    size: ranks,
    program: new URL("./program.ts", import.meta.url),
    options: rankOptions,
    heapBytesPerRank: Math.floor((3 * 2 ** 30) / ranks),
    startDeadlineMs: 120_000,
    deadlineMs: 120_000,
  });
}

/** The steps of float arithmetic on the CPU, to check the others against. */
async function expectedOnCpu(ranks: number): Promise<void> {
  await using world = await openBenchWorld(ranks, {
    sharing: "own devices",
    gpus: undefined,
    adapter: "hardware",
    wasm: true,
    queries: "heap",
    results: "heap",
    overlap: "off",
    batchInvariant: true,
  });
  for (const shape of shapes) {
    outputs.set(`${shape.name} ${ranks} cpu`, gathered(shape, await world.call("steps", [shape, 0])));
  }
}

async function measure(places: Placement): Promise<StepReport[]> {
  const { ranks, sharing, gpus: used, queries, results, overlap } = places;
  const adapter = options.software ? "software" : "hardware";
  await using world = await openBenchWorld(ranks, {
    sharing,
    gpus: used,
    adapter,
    wasm: false,
    queries,
    results,
    overlap,
    // Halves have the bits of the whole then.
    batchInvariant: overlaps.includes("on"),
  });
  const floors = await world.call("floor", [shapes, options.software ? 3 : 31]);
  const [device = ""] = await world.call("open", []);
  const placement =
    ranks === 1
      ? "one rank"
      : sharing === "shared device"
        ? "one device"
        : (used ?? 1) > 1
          ? "a GPU each"
          : "own devices, one GPU";
  const found: StepReport[] = [];
  for (const [index, shape] of shapes.entries()) {
    const figures = await world.call("steps", [shape, seconds]);
    check(shape, places, `${placement}, overlap ${overlap}`, gathered(shape, figures));
    const slowest = (value: (figure: StepFigures) => number): number => Math.max(...figures.map(value));
    const { up, down } = transferBytes(shape, places);
    found.push({
      shape: shape.name,
      partials: shape.partialDtype,
      ranks,
      placement,
      queries,
      results,
      overlap,
      device,
      microseconds: slowest(({ microseconds }) => microseconds),
      gatherUs: slowest(({ gatherUs }) => gatherUs),
      attentionUs: slowest(({ attentionUs }) => attentionUs),
      combineUs: slowest(({ combineUs }) => combineUs),
      combine: figures[0]?.combine ?? "",
      transfersUs: Math.max(...floors.map((rank) => rank[index] ?? 0)),
      megabytesUp: up / 1e6,
      megabytesDown: down / 1e6,
      megabytesMapped: slowest(({ crossed }) => crossed.down) / 1e6,
      ncclUs: ranks === 2 ? recordedNccl(shape, device) : undefined,
    });
  }
  return found;
}

/** [batch, queryHeads, valueDim] from each rank's heads. */
function gathered({ batch, valueDim }: StepShape, figures: readonly StepFigures[]): Float32Array {
  const widths = figures.map(({ out }) => out.length / batch);
  const all = new Float32Array(figures.reduce((sum, { out }) => sum + out.length, 0));
  let at = 0;
  for (let row = 0; row < batch; row++) {
    for (const [rank, { out }] of figures.entries()) {
      const width = widths[rank] ?? 0;
      all.set(out.subarray(row * width, (row + 1) * width), at);
      at += width;
    }
  }
  if (at % valueDim !== 0) throw new Error("ranks returned parts of heads");
  return all;
}

function check(shape: StepShape, places: StepPlaces, placement: string, out: Float32Array): void {
  const { ranks, sharing, results } = places;
  const what = `${shape.name} on ${ranks} ranks, ${placement}, results in ${results}`;
  const cpu = outputs.get(`${shape.name} ${ranks} cpu`) ?? new Float32Array();
  if (out.length !== cpu.length) throw new Error(`${what}: ${out.length} elements instead of ${cpu.length}`);
  for (const [index, want] of cpu.entries()) {
    const got = out[index] ?? Number.NaN;
    if (!(Math.abs(got - want) <= TOLERANCE[shape.partialDtype] * (1 + Math.abs(want)))) {
      throw new Error(`${what}: element ${index} is ${got} instead of ${want}`);
    }
  }
  // WebAssembly and GPUs round exponentials each in their way.
  const merger = results === "heap" && sharing === "own devices" ? "WebAssembly" : "GPU";
  const key = `${shape.name} ${ranks} gpu ${merger}`;
  const before = outputs.get(key);
  if (before === undefined) outputs.set(key, out);
  else if (Buffer.compare(Buffer.from(before.buffer), Buffer.from(out.buffer)) !== 0) {
    throw new Error(`${what}: other bits than where the ranks compute elsewhere`);
  }
}

function print(): void {
  console.log(
    `${reports[0]?.device ?? "no GPU"}, ${gpus} of them; outputs checked, the same bits in every row of a step`,
  );
  const header = [
    "step",
    "partials",
    "ranks",
    "devices",
    "queries",
    "results",
    "overlap",
    "us",
    "gather",
    "attend",
    "combine",
    "by",
    "MB up",
    "MB down",
    "mapped",
    "transfers us",
    "ratio",
    "NCCL us",
  ];
  const cells = reports.map((report) => [
    report.shape,
    report.partials,
    `${report.ranks}`,
    report.placement,
    report.queries,
    report.results,
    report.overlap,
    report.microseconds.toFixed(0),
    report.gatherUs.toFixed(0),
    report.attentionUs.toFixed(0),
    report.combineUs.toFixed(0),
    report.combine,
    report.megabytesUp.toFixed(2),
    report.megabytesDown.toFixed(2),
    report.megabytesMapped.toFixed(2),
    report.transfersUs === 0 ? "" : report.transfersUs.toFixed(0),
    report.transfersUs === 0 ? "" : (report.microseconds / report.transfersUs).toFixed(2),
    report.ncclUs?.toFixed(0) ?? "",
  ]);
  printTable(header, cells);
}
