import type { OpName } from "./ops.ts";

/** How far a result may be from its expected value x: atol + rtol * |x|. */
export interface CorpusTolerance {
  readonly atol: number;
  readonly rtol: number;
  readonly why: string;
}

/** The tolerances that outputs of the corpus name. */
export const TOLERANCES = {
  exact: { atol: 0, rtol: 0, why: "Numbers are only moved, or are integers: every one must agree." },
  f32: {
    atol: 1e-5,
    rtol: 1e-5,
    why: "Inputs are exact in f32 and sums short; f32 arithmetic in any order stays some ten times closer.",
  },
  "f32-of-16-bit": {
    atol: 1e-4,
    rtol: 1e-5,
    why: "Inputs are what their 16 bits say, arithmetic is f32. Kernels that round softmax weights need more.",
  },
  f16: {
    atol: 1e-5,
    rtol: 2 ** -10,
    why: "The f32 result rounded once to f16: one unit in the last place, at most 2^-10 |x|.",
  },
  bf16: {
    atol: 1e-5,
    rtol: 2 ** -7,
    why: "The f32 result rounded once to bf16: one unit in the last place, at most 2^-7 |x|.",
  },
} as const satisfies Readonly<Record<string, CorpusTolerance>>;

/** A name of {@link TOLERANCES}. */
export type ToleranceName = keyof typeof TOLERANCES;

const EXACT: readonly OpName[] = [
  "gather_query",
  "pack_seq",
  "unpack_seq",
  "kv_groups",
  "local_lengths",
  "local_ranges",
  "slot_mapping",
];
const ATTENTION: readonly OpName[] = ["partial_attention", "decode_step", "prefill_parts", "prefill_step"];
const NARROW = ["F16", "BF16", "F8_E4M3", "I8"];

/**
 * The tolerance of an op's output.
 * @param typeNames of the inputs, as safetensors files name them
 */
export function toleranceOf(op: OpName, output: string, typeNames: readonly string[]): ToleranceName {
  if (EXACT.includes(op)) return "exact";
  if (ATTENTION.includes(op)) return typeNames.some((name) => NARROW.includes(name)) ? "f32-of-16-bit" : "f32";
  if (output === "lse") return "f32";
  return typeNames.includes("F16") ? "f16" : typeNames.includes("BF16") ? "bf16" : "f32";
}
