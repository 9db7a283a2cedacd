import type { ParallelSizes } from "@lockstep/dist-groups";
import { type BackendName, type KernelBackend, openBackend } from "@lockstep/kernels";
import { type Allocator, Arena, ArgumentError, SharedHeap, type Tensor } from "@lockstep/tensor";
import type { AttentionProgramOptions } from "../attention-program.ts";
import { NO_DEVIATION } from "../tolerance.ts";
import type { CorpusCase } from "./corpus-case.ts";
import { CorpusError } from "./corpus-error.ts";
import { type CaseResults, judge, type Verdict } from "./judge.ts";
import { expectWorld, openCorpusWorld, sizesOf } from "./corpus-world.ts";
import { KERNEL_OPS } from "./kernel-ops.ts";
import { type Corpus, readCorpus } from "./manifest.ts";
import { WORLD_OPS } from "./world-ops.ts";

/** Options of {@link checkCorpus}. */
export interface CorpusOptions {
  readonly backends: readonly BackendName[];
  /** Which GPU adapter `webgpu` may use. */
  readonly adapter: AttentionProgramOptions["adapter"];
  /** Only cases whose names begin with one of these. Default: all. */
  readonly only?: readonly string[];
  /** Called once per backend with what it runs on. */
  readonly onDevice?: (backend: BackendName, device: string) => void;
  /** Called for each case as it finishes. */
  readonly onResult?: (result: CorpusResult) => void;
}

/** How one case went on one backend. */
export interface CorpusResult extends Verdict {
  readonly case: string;
  readonly backend: BackendName;
}

/**
 * Runs every case of a corpus on every backend.
 * @param path of its manifest
 * @returns how each case went, and what each named mistake is
 * @throws CorpusError for a corpus that is damaged, BackendUnavailable when a backend cannot run
 */
export async function checkCorpus(
  path: string,
  options: CorpusOptions,
): Promise<{ readonly results: readonly CorpusResult[]; readonly mistakes: Corpus["mistakes"] }> {
  const whole = readCorpus(path);
  const { only = [""] } = options;
  const cases = whole.cases.filter(({ name }) => only.some((beginning) => name.startsWith(beginning)));
  const corpus = { ...whole, cases };
  const results: CorpusResult[] = [];
  for (const backend of options.backends) results.push(...(await checkBackend(corpus, backend, options)));
  return { results, mistakes: corpus.mistakes };
}

async function checkBackend(corpus: Corpus, name: BackendName, options: CorpusOptions): Promise<CorpusResult[]> {
  const byCase = new Map<CorpusCase, CorpusResult>();
  const record = (each: CorpusCase, verdict: Verdict): void => {
    const result = { case: each.name, backend: name, ...verdict };
    byCase.set(each, result);
    options.onResult?.(result);
  };
  const heap = SharedHeap.create(256 << 20);
  {
    await using backend = await openBackend(name, { heap, adapter: options.adapter });
    options.onDevice?.(name, backend.device);
    for (const each of corpus.cases) {
      if (KERNEL_OPS[each.op] === undefined) continue;
      record(each, await verdictOf(each, () => runKernelOp(corpus, each, backend, heap)));
    }
  }
  const program: AttentionProgramOptions = { backend: name, adapter: options.adapter };
  for (const { sizes, cases } of byWorld(corpus)) {
    await using world = await openCorpusWorld(sizes, program);
    for (const each of cases) record(each, await verdictOf(each, () => runWorldOp(corpus, each, sizes, world)));
  }
  return corpus.cases.map((each) => {
    const result = byCase.get(each);
    if (result === undefined) throw new CorpusError(corpus.path, `expected ${each.name} to be run, but nothing ran it`);
    return result;
  });
}

interface WorldCases {
  readonly sizes: ParallelSizes;
  readonly cases: CorpusCase[];
}

/** The cases that ranks do together, by the world that they need; each that must be refused has one of its own. */
function byWorld(corpus: Corpus): WorldCases[] {
  const worlds = new Map<string, WorldCases>();
  for (const each of corpus.cases) {
    if (WORLD_OPS[each.op] === undefined) continue;
    const outs = each.inputs.get("outs");
    const sizes = sizesOf(each.parameters, outs === undefined ? undefined : each.file.stored(outs).shape[0]);
    expectWorld(corpus.path, each.name, each.parameters, sizes);
    const key = each.refuse === undefined ? JSON.stringify(sizes) : each.name;
    const world = worlds.get(key) ?? { sizes, cases: [] };
    worlds.set(key, world);
    world.cases.push(each);
  }
  return [...worlds.values()];
}

/** Judges what an op gives, or that it refuses. */
async function verdictOf(each: CorpusCase, run: () => Promise<readonly CaseResults[]>): Promise<Verdict> {
  const wrong = { maxError: Number.POSITIVE_INFINITY, worst: Number.POSITIVE_INFINITY };
  let results: readonly CaseResults[];
  try {
    results = await run();
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    return { deviation: each.refuse === undefined ? wrong : NO_DEVIATION, mistakes: [] };
  }
  if (each.refuse !== undefined) return { deviation: wrong, mistakes: ["bad-input-taken"] };
  each.parameters.expectAllRead();
  return judge(each, results);
}

function readInputs(corpus: Corpus, each: CorpusCase, allocator: Allocator) {
  const optional = (name: string): Tensor | undefined => {
    const tensor = each.inputs.get(name);
    return tensor === undefined ? undefined : each.file.read(tensor, allocator);
  };
  const input = (name: string): Tensor => {
    const tensor = optional(name);
    if (tensor === undefined) throw new CorpusError(corpus.path, `expected ${each.name} to have an input ${name}`);
    return tensor;
  };
  return { input, optional };
}

async function runKernelOp(
  corpus: Corpus,
  each: CorpusCase,
  backend: KernelBackend,
  heap: SharedHeap,
): Promise<CaseResults[]> {
  const arena = new Arena(heap, 32 << 20);
  try {
    const { parameters } = each;
    const result = await KERNEL_OPS[each.op]?.({
      backend,
      allocator: arena,
      parameters,
      ...readInputs(corpus, each, arena),
    });
    return result === undefined ? [] : [result];
  } finally {
    arena.close();
  }
}

async function runWorldOp(
  corpus: Corpus,
  each: CorpusCase,
  sizes: ParallelSizes,
  world: Awaited<ReturnType<typeof openCorpusWorld>>,
): Promise<CaseResults[]> {
  const arena = new Arena(world.heap, 8 << 20);
  try {
    const { parameters } = each;
    const inputs = readInputs(corpus, each, arena);
    return (await WORLD_OPS[each.op]?.({ world, sizes, arena, parameters, ...inputs })) ?? [];
  } finally {
    arena.close();
  }
}
