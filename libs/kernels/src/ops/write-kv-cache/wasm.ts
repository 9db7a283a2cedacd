import { DTYPE_BYTES, type Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import { expectHeapTensor } from "../../operand.ts";
import type { WasmKernels } from "../../wasm/wasm-kernels.ts";
import { checkWriteKvCache, type WriteKvCacheArgs } from "./index.ts";

const VIEW_WORDS = 13;

/** writeKvCache by `write-kv-cache.as.ts`: keys, then values. */
export function writeKvCacheWasm(kernels: WasmKernels, context: KernelContext, args: WriteKvCacheArgs): void {
  const { keyFactors, valueFactors } = checkWriteKvCache(args);
  const name = "writeKvCache";
  const { heap } = kernels;
  const key = expectHeapTensor(name, "key", args.key, heap);
  const keyCache = expectHeapTensor(name, "keyCache", args.keyCache, heap);
  const value = args.value === undefined ? undefined : expectHeapTensor(name, "value", args.value, heap);
  const valueCache =
    args.valueCache === undefined ? undefined : expectHeapTensor(name, "valueCache", args.valueCache, heap);
  const dtypes = `${key.dtype}_${keyCache.dtype}`;
  const kernel = context.get(`${name} ${key.dtype} ${keyCache.dtype}`, () => kernels.kernel(`${name}_${dtypes}`));
  const [tokens = 0, heads = 0] = key.shape;
  const { pointer, ints, floats } = kernels.reserve((VIEW_WORDS + tokens + heads) * 4);
  const factorsAt = VIEW_WORDS + tokens;
  ints.set(args.slotMapping, VIEW_WORDS);
  writeView(ints, key, keyCache);
  ints[VIEW_WORDS - 1] = pointer + factorsAt * 4;
  if (keyFactors !== undefined) floats.set(keyFactors, factorsAt);
  kernel(pointer, pointer + VIEW_WORDS * 4);
  if (value === undefined || valueCache === undefined) return;
  writeView(ints, value, valueCache);
  if (valueFactors !== undefined) floats.set(valueFactors, factorsAt);
  kernel(pointer, pointer + VIEW_WORDS * 4);
}

function writeView(ints: Int32Array, rows: Tensor, cache: Tensor): void {
  let at = 0;
  ints[at++] = rows.byteOffset;
  for (let dim = 0; dim < 3; dim++) ints[at++] = rows.stride(dim) * DTYPE_BYTES[rows.dtype];
  ints[at++] = cache.byteOffset;
  for (let dim = 0; dim < 3; dim++) ints[at++] = cache.stride(dim) * DTYPE_BYTES[cache.dtype];
  for (const size of rows.shape) ints[at++] = size;
  ints[at++] = cache.dim(1);
}
