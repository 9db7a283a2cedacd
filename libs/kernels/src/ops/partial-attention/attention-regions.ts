import type { DType } from "@lockstep/tensor";
import type { Recorder } from "../../webgpu/recorder.ts";
import type { Region } from "../../webgpu/region.ts";
import { type FloatDType, floatDType } from "../../webgpu/wgsl-operands.ts";
import type { AttentionInputPlan, AttentionInputs } from "./attention-inputs.ts";
import type { KvElement } from "./kv-operand.ts";

/** What attention reads on a GPU, and what kernels are chosen by. */
export interface AttentionOperandRegions {
  readonly query: Region;
  readonly keys: Region;
  readonly values: Region;
  /** Of rows of keys and of values; empty when rows have none. */
  readonly scales: readonly Region[];
  readonly queryDType: FloatDType | "f8e4m3";
  /** Elements of a query that one load takes. */
  readonly queryUnit: 1 | 4;
  readonly kvDType: KvElement;
  /** Elements at whose multiples rows of the caches begin, and where the first one does. */
  readonly rowPlaces: readonly number[];
  /** Query heads that share a KV head. */
  readonly headsTogether: number;
}

/** Has the operands of attention read. `plan` is what the check of `args` returned. */
export function readAttentionOperands(
  recorder: Recorder,
  args: AttentionInputs,
  plan: AttentionInputPlan,
): AttentionOperandRegions {
  const query = recorder.read(args.query);
  const keys = recorder.read(args.keyCache);
  const values = recorder.read(args.valueCache);
  const scales = [args.keyScaleCache, args.valueScaleCache]
    .filter((operand) => operand !== undefined)
    .map((operand) => recorder.read(operand));
  return {
    query,
    keys,
    values,
    scales,
    queryDType: args.query.dtype === "f8e4m3" ? args.query.dtype : floatDType(args.query.dtype),
    queryUnit: plan.keyDim % 4 === 0 && query.first % 4 === 0 ? 4 : 1,
    kvDType: kvElement(args.keyCache.dtype),
    rowPlaces: [keys, values].flatMap(({ first, strides }) => [first, ...strides.slice(0, 3)]),
    headsTogether: Math.min(plan.headGroup.size, plan.queryHeads),
  };
}

function kvElement(dtype: DType): KvElement {
  return dtype === "f8e4m3" || dtype === "i8" ? dtype : floatDType(dtype);
}
