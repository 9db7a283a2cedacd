// Runs a checkpoint in a process of its own, so that the memory it takes is this world's alone. Started by
// `runCheckpoint`, it takes a job in JSON, writes logits into a file, and prints what it measured as JSON.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Generator, type GeneratorOptions, openModel } from "@lockstep/language-model";

export interface CheckpointJob {
  readonly folder: string;
  readonly options: GeneratorOptions;
  /** The first of them make a prompt of `promptTokens`; the others come one by one. */
  readonly ids: readonly number[];
  readonly promptTokens: number;
  /** Tokens to decode after that, from `ids` as a prompt. */
  readonly decoded: number;
  /** Where logits go. */
  readonly logitsFile: string;
}

interface Measured {
  readonly loadSeconds: number;
  readonly tokensPerSecond: number;
  readonly tokens: readonly number[];
  /** Bytes of memory of the process, now and at its peak; 0 where the system does not tell. */
  readonly resident: number;
  readonly peak: number;
}

export interface CheckpointRun extends Measured {
  /** Logits of what follows the prompt, and each id after it. */
  readonly logits: readonly Float32Array[];
}

/** @throws Error with what the process said when it failed */
export function runCheckpoint(job: CheckpointJob): CheckpointRun {
  const args = [fileURLToPath(import.meta.url), JSON.stringify(job)];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 1_800_000 });
  if (status !== 0) throw new Error(`the process of ${job.options.world} ranks ended with ${status}: ${stderr}`);
  const bytes = readFileSync(job.logitsFile);
  const all = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const rows = job.ids.length - job.promptTokens + 1;
  const logits = Array.from({ length: rows }, (_, row) =>
    all.subarray((row * all.length) / rows, ((row + 1) * all.length) / rows),
  );
  return { ...(JSON.parse(stdout) as Measured), logits };
}

async function run(job: CheckpointJob): Promise<Measured> {
  const started = performance.now();
  const model = openModel(job.folder);
  await using generator = await Generator.open(model, job.options);
  const loadSeconds = (performance.now() - started) / 1000;
  const rows: Float32Array[] = [];
  await generator.prefill(job.ids.slice(0, job.promptTokens));
  rows.push(await generator.logits());
  for (const id of job.ids.slice(job.promptTokens)) {
    await generator.step([id]);
    rows.push(await generator.logits());
  }
  writeFileSync(job.logitsFile, Buffer.concat(rows.map((row) => new Uint8Array(row.buffer))));
  const tokens: number[] = [];
  let first = 0;
  for await (const token of generator.generate(job.ids, { maxTokens: job.decoded })) {
    if (tokens.length === 0) first = performance.now();
    tokens.push(token);
  }
  const tokensPerSecond = ((tokens.length - 1) * 1000) / (performance.now() - first);
  const [resident, peak] = [statusBytes("VmRSS"), statusBytes("VmHWM")];
  return { loadSeconds, tokensPerSecond, tokens, resident, peak };
}

function statusBytes(field: string): number {
  if (process.platform !== "linux") return 0;
  return 1024 * Number(new RegExp(`${field}:\\s*(\\d+) kB`).exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? 0);
}

if (import.meta.main) console.log(JSON.stringify(await run(JSON.parse(process.argv[2] ?? ""))));
