// A consumer with every strict flag, without the types of browsers and of Node: what it imports must have types, and
// these must stand on the language alone.
import { DcpAttention, type DcpAttentionOptions, dcpCorrectAttnOut } from "@lockstep/attention";
import { type CollectiveTimeout, openWorld, type RankContext, type World } from "@lockstep/dist-groups";
import { runRank } from "@lockstep/dist-groups/rank";
import { checkFiles } from "@lockstep/goldens";
import { type KernelBackend, openBackend } from "@lockstep/kernels";
import { Generator, openModel } from "@lockstep/language-model";
import { openSharedBackend } from "@lockstep/shared-gpu";
import { type SafetensorsFile, SharedHeap, Tensor } from "@lockstep/tensor";

interface Program {
  setup(context: RankContext, options: { readonly scale: number }): { sum(count: number): Promise<number> };
}

export async function useAll(address: string): Promise<readonly number[]> {
  const heap = SharedHeap.create(1 << 20);
  const backend: KernelBackend = await openBackend("wasm", { heap });
  const out = Tensor.from(heap, "f32", [1, 1, 2], [3, 5]);
  const lses = Tensor.from(heap, "f32", [2, 1, 1], [0, 1]);
  const corrected = await dcpCorrectAttnOut(backend, out, lses, 0);
  const world = await openWorld<Program>({ size: 2, program: address, options: { scale: 2 } });
  // @ts-expect-error: a method that the program does not have
  await world.call("product", [1]);
  // @ts-expect-error: options are the program's
  await openWorld<Program>({ size: 2, program: address, options: { scale: "2" } });
  const sums: readonly number[] = await world.call("sum", [corrected.lse.at(0, 0)]);
  await world.close();
  await backend.close();
  return sums;
}

export function openAttention(options: DcpAttentionOptions): DcpAttention {
  return DcpAttention.open(options);
}

export const missing = (error: CollectiveTimeout): readonly number[] => error.missing;
export const opened: ReadonlyArray<unknown> = [runRank, checkFiles, Generator, openModel, openSharedBackend];
export type AnyWorld = World | SafetensorsFile;
