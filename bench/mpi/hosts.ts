// What a decode step over N hosts would take, by hosts-model.ts with what this machine measures; held against steps
// over as many processes as are run here.
import { availableParallelism } from "node:os";
import { median } from "../openmpi/cases.ts";
import { printTable } from "../print-table.ts";
import { formatSeconds } from "../timing.ts";
import { drawHosts } from "./draw-hosts.ts";
import { type Compute, type Network, stepSeconds } from "./hosts-model.ts";
import { CONTEXTS, LAYERS, type MeasuredStep, RANKS, stepOver } from "./modelled-steps.ts";
import { mpiSteps, STEP_SHAPE, stepsOf, workerSteps } from "./step.ts";
import { CSide, type Launch, LockstepSide } from "./windows.ts";

const [HEADER_BYTES, LARGE_BYTES] = [128, 1 << 20];
/** Networks of one machine, by what makes OpenMPI use them. */
const NETWORKS = [
  { name: "shared memory", launcherArguments: [] },
  { name: "TCP on loopback", launcherArguments: ["--mca", "btl", "self,tcp"] },
] as const;
const [SHORT, LONG] = [1024, 16_384];
const LAUNCH = { implementation: "openmpi", processes: 2 } as const;

async function samplesOf(windows: number, window: () => Promise<number>): Promise<number[]> {
  const seconds: number[] = [];
  for (let turn = -3; turn < windows; turn++) {
    const sample = await window();
    if (turn >= 0) seconds.push(sample);
  }
  return seconds;
}

async function medianOf(windows: number, window: () => Promise<number>): Promise<number> {
  return median(await samplesOf(windows, window));
}

/** A network's own time: of the window that nothing else on the machine disturbed. */
async function fastestOf(windows: number, window: () => Promise<number>): Promise<number> {
  return Math.min(...(await samplesOf(3 * windows, window)));
}

async function measureNetwork(name: string, launch: Launch, windows: number): Promise<Network> {
  await using peer = await CSide.open(launch);
  const pingPong = (bytes: number, calls: number): Promise<number> =>
    fastestOf(windows, () => peer.window("plain", { name: "ping-pong", bytes, calls }));
  const latency = await pingPong(HEADER_BYTES, 2000);
  const large = await pingPong(LARGE_BYTES, 20);
  await using ours = await LockstepSide.open(launch);
  const barrier = await fastestOf(windows, () => ours.window({ name: "barrier", bytes: 0, calls: 10_000 }));
  return {
    name,
    latency,
    bandwidth: LARGE_BYTES / (large - latency),
    perPeer: Math.max(0, barrier - latency),
  };
}

async function measureCompute(windows: number): Promise<Compute> {
  await using alone = await workerSteps(1);
  const timed = async (context: number): Promise<number> => {
    await alone.prepare(1, context);
    return medianOf(windows, async () => (await alone.steps(stepsOf(1, context))).step);
  };
  const [short, long] = [await timed(SHORT), await timed(LONG)];
  const perToken = (long - short) / (LONG - SHORT);
  return { perToken, fixed: Math.max(0, short - perToken * SHORT) };
}

async function measureSteps(windows: number, most: number): Promise<MeasuredStep[]> {
  const measured: MeasuredStep[] = [];
  for (const { name, launcherArguments } of NETWORKS) {
    for (let ranks = 2; ranks <= most; ranks++) {
      await using side = await mpiSteps({ ...LAUNCH, processes: ranks, launcherArguments });
      for (const batch of [1, 8]) {
        await side.prepare(batch, LONG);
        const seconds = await medianOf(windows, async () => (await side.steps(stepsOf(batch, LONG))).step);
        measured.push({ network: name, step: stepOver(LONG, batch), ranks, seconds });
      }
    }
  }
  return measured;
}

/** Measures, prints what the model says and how far off it is, and returns the chart. */
export async function modelHosts(windows: number, mostProcesses: number): Promise<string> {
  const compute = await measureCompute(windows);
  const networks: Network[] = [];
  for (const { name, launcherArguments } of NETWORKS) {
    networks.push(await measureNetwork(name, { ...LAUNCH, launcherArguments }, windows));
  }
  const { queryHeads, kvHeads, headDim } = STEP_SHAPE;
  console.log(
    `\nA model of a decode step over N hosts: ${queryHeads} query heads over ${kvHeads}, head dim ${headDim}`,
  );
  const nanoseconds = (compute.perToken * 1e9).toFixed(0);
  console.log(`  attention: ${nanoseconds} ns for each token of context; ${formatSeconds(compute.fixed)} beside that`);
  for (const { name, latency, bandwidth, perPeer } of networks) {
    const costs = `${formatSeconds(latency)} for a header, ${(bandwidth / 1e9).toFixed(2)} GB/s`;
    console.log(`  ${name}: ${costs}, ${formatSeconds(perPeer)} of a rank's time for each peer and round`);
  }
  const rows = networks.flatMap((network) =>
    CONTEXTS.map((context) => {
      const times = RANKS.map((ranks) => stepSeconds(stepOver(context), ranks, compute, network));
      return [`${network.name}, ${context} tokens`, ...times.map(formatSeconds)];
    }),
  );
  console.log("\none layer, one sequence, by ranks:");
  printTable(["over", ...RANKS.map(String)], rows);
  const models = networks.flatMap((network) =>
    CONTEXTS.map((context) => {
      const times = RANKS.map((ranks) => LAYERS * stepSeconds(stepOver(context), ranks, compute, network));
      return [`${network.name}, ${context} tokens`, ...times.map(formatSeconds)];
    }),
  );
  console.log(`\nattention of a model of ${LAYERS} layers, one sequence, by ranks:`);
  printTable(["over", ...RANKS.map(String)], models);

  const measured = await measureSteps(windows, mostProcesses);
  const cores = availableParallelism();
  console.log(`\nheld against steps of one layer over processes here, which share ${cores} cores:`);
  const held = measured.map(({ network, step, ranks, seconds }) => {
    const found = networks.find(({ name }) => name === network);
    const modelled = found === undefined ? Number.NaN : stepSeconds(step, ranks, compute, found, cores);
    const off = `${(100 * (modelled / seconds - 1)).toFixed(0)} %`;
    const label = `${network}, batch ${step.batch}, ${step.context} tokens, ${ranks} processes`;
    return [label, formatSeconds(modelled), formatSeconds(seconds), off];
  });
  printTable(["step", "model", "measured", "model off by"], held);
  return drawHosts(networks, compute, measured);
}
