import type { DType } from "@lockstep/tensor";
import type { ToleranceName } from "../../src/corpus/tolerances.ts";

/** Numbers of a tensor, row-major, before they are written. */
export interface Values {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly numbers: ArrayLike<number>;
}

/** An output, and how far another may be off. */
export interface OutputValues extends Values {
  readonly tolerance: ToleranceName;
}

/** Tensors by name. */
export type Inputs = Readonly<Record<string, Values>>;

/** What an op gives, by name. */
export type Outputs = Readonly<Record<string, OutputValues>>;

/** Parameters of the ops, as the manifest has them. Each op uses some. */
export interface OpParameters {
  /** Base of LSEs, in and out. Default "e". */
  readonly base?: "e" | "2";
  /** What becomes of an LSE that is NaN or +inf. Default "drop". */
  readonly non_finite?: "drop" | "propagate";
  readonly out_dtype?: "f32" | "f16" | "bf16";
  readonly pad?: number | "-inf";
  readonly world?: number;
  readonly interleave?: number;
  readonly block_size?: number;
  readonly weights?: readonly number[];
  readonly layout?: "classic" | "orthogonal";
  readonly dp?: number;
  readonly pcp?: number;
  readonly tp?: number;
  readonly dcp?: number;
  /** Whether every rank stores all KV heads, or those that its query heads read. Default "replicated". */
  readonly kv?: "replicated" | "head-sharded";
  readonly scale?: number;
  readonly softcap?: number;
  readonly window?: number;
  /** Prefill: positions of a context that are attended to at a time. Results do not depend on it. */
  readonly context_chunk?: number;
  /** MLA: values are the first columns of the keys. */
  readonly value_dim?: number;
  readonly head_group?: { readonly size: number; readonly offset: number };
  /** What a stored 1 of a quantised cache is worth, for each KV head. */
  readonly key_scale?: readonly number[];
  readonly value_scale?: readonly number[];
}

/** An op in float64, as it is defined, or as a named mistake has it. */
export type Float64Op = (parameters: OpParameters, inputs: Inputs, mistake?: string) => Outputs;

/** An input that an op must have. */
export function input(inputs: Inputs, name: string): Values {
  const values = inputs[name];
  if (values === undefined) throw new Error(`no input ${name}`);
  return values;
}

/** Product of sizes. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}
