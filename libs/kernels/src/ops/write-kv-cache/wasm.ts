import type { Tensor } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { putView } from "../../wasm/put-view.ts";
import { checkWriteKvCache, type WriteKvCacheArgs } from "./index.ts";
import { VIEW_TABLE } from "./wasm-table.ts";

const VIEW_WORDS = VIEW_TABLE.words;

/** writeKvCache by `write-kv-cache.as.ts`: keys, then values. */
export function writeKvCacheWasm(memories: WasmMemories, context: KernelContext, args: WriteKvCacheArgs): void {
  const { slots, keyFactors, valueFactors } = checkWriteKvCache(args);
  const name = "writeKvCache";
  const kernels = memories.ofCache(name, "keyCache", args.keyCache);
  const keyCache = kernels.resident(name, "keyCache", args.keyCache);
  const valueCache = args.valueCache === undefined ? undefined : kernels.resident(name, "valueCache", args.valueCache);
  const scales = (argument: "keyScaleCache" | "valueScaleCache"): Tensor | undefined => {
    const cache = args[argument];
    return cache === undefined ? undefined : kernels.resident(name, argument, cache);
  };
  const [keyScales, valueScales] = [scales("keyScaleCache"), scales("valueScaleCache")];
  const key = kernels.input(name, "key", args.key);
  const value = args.value === undefined ? undefined : kernels.input(name, "value", args.value);
  const kernel = kernels.get(context, `${name}_${key.dtype}_${keyCache.dtype}`);
  const [tokens = 0, heads = 0] = key.shape;
  const { pointer, ints, floats } = kernels.reserve((VIEW_WORDS + tokens + heads) * 4);
  const factorsAt = VIEW_WORDS + tokens;
  ints.set(slots, VIEW_WORDS);
  writeView(ints, key, keyCache, pointer + factorsAt * 4, keyScales);
  if (keyFactors !== undefined) floats.set(keyFactors, factorsAt);
  kernel(pointer, pointer + VIEW_WORDS * 4);
  if (value === undefined || valueCache === undefined) return;
  writeView(ints, value, valueCache, pointer + factorsAt * 4, valueScales);
  if (valueFactors !== undefined) floats.set(valueFactors, factorsAt);
  kernel(pointer, pointer + VIEW_WORDS * 4);
}

/** Writes what the kernel is told of rows and their cache, from the first word of `ints` on. */
export function writeView(
  ints: Int32Array,
  rows: Tensor,
  cache: Tensor,
  factors: number,
  scales: Tensor | undefined,
): void {
  const { at } = VIEW_TABLE;
  const [tokens = 0, heads = 0, columns = 0] = rows.shape;
  putView(ints, at.SOURCE, rows, 3);
  putView(ints, at.TARGET, cache, 3);
  ints[at.TOKENS] = tokens;
  ints[at.HEADS] = heads;
  ints[at.COLUMNS] = columns;
  ints[at.BLOCK_SIZE] = cache.dim(1);
  ints[at.FACTORS] = factors;
  putView(ints, at.SCALES, scales, 3);
}
