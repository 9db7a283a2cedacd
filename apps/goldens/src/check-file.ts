import { openWorld } from "@lockstep/dist-groups";
import { type BackendName, openBackend } from "@lockstep/kernels";
import { SafetensorsFile, SharedHeap } from "@lockstep/tensor";
import type { AttentionProgramOptions } from "./attention-program.ts";
import type * as program from "./attention-program.ts";
import { checkAttention } from "./check-attention.ts";
import { checkCorrect } from "./check-correct.ts";
import { checkPack } from "./check-pack.ts";
import { type ReferenceCase, readCases } from "./reference-file.ts";
import type { Deviation } from "./tolerance.ts";
import { validateCase } from "./validate-case.ts";

/** Options of {@link checkFiles}. */
export interface CheckOptions {
  readonly backends: readonly BackendName[];
  /** Sizes of the worlds that run attention cases. */
  readonly worlds: readonly number[];
  /** Which GPU adapter `webgpu` may use. */
  readonly adapter: AttentionProgramOptions["adapter"];
  /** Called once per backend with what it runs on. */
  readonly onDevice?: (backend: BackendName, device: string) => void;
  /** Called for each case as it finishes; `world` is 1 for cases that need none. */
  readonly onResult?: (result: CaseResult) => void;
}

/** How one case went on one backend. */
export interface CaseResult {
  readonly file: string;
  readonly id: string;
  readonly backend: BackendName;
  /** Ranks; undefined for kinds that need no world. */
  readonly world: number | undefined;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly deviation: Deviation;
}

/**
 * Runs every case of reference files on every backend.
 * @throws BackendUnavailable when a backend cannot run, ReferenceFileError or SafetensorsError for a bad file
 */
export async function checkFiles(paths: readonly string[], options: CheckOptions): Promise<CaseResult[]> {
  const files: SafetensorsFile[] = [];
  const results: CaseResult[] = [];
  try {
    for (const path of paths) files.push(SafetensorsFile.open(path));
    const cases = files.flatMap(readCases);
    // Before any backend is opened: a bad file is answered at once.
    for (const reference of cases) validateCase(reference);
    for (const backend of options.backends) results.push(...(await checkBackend(cases, backend, options)));
  } finally {
    for (const file of files) file.close();
  }
  return results;
}

async function checkBackend(
  cases: readonly ReferenceCase[],
  name: BackendName,
  options: CheckOptions,
): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  const record = (reference: ReferenceCase, world: number | undefined, deviation: Deviation): void => {
    const { file, id, fields } = reference;
    const result = { file: file.path, id, backend: name, world, fields, deviation };
    results.push(result);
    options.onResult?.(result);
  };
  const heap = SharedHeap.create(1 << 30);
  {
    await using backend = await openBackend(name, { heap, adapter: options.adapter });
    options.onDevice?.(name, backend.device);
    for (const reference of cases) {
      if (reference.kind === "correct") record(reference, undefined, await checkCorrect(reference, backend, heap));
      else if (reference.kind === "pack") record(reference, undefined, await checkPack(reference, backend, heap));
    }
  }
  const sharded = cases.filter(({ kind }) => kind === "attention");
  if (sharded.length === 0) return results;
  for (const size of options.worlds) {
    const programOptions: AttentionProgramOptions = { backend: name, adapter: options.adapter };
    await using world = await openWorld<typeof program>({
      size,
      program: new URL("./attention-program.ts", import.meta.url),
      options: programOptions,
      deadlineMs: 120_000,
    });
    for (const reference of sharded) record(reference, size, await checkAttention(reference, world));
  }
  return results;
}
