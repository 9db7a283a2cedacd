import { DTYPE_BYTES } from "@lockstep/tensor";
import type { KernelContext } from "../../context.ts";
import type { WasmMemories } from "../../wasm/wasm-memories.ts";
import { checkGatherKvCache, type GatherKvCacheArgs } from "./index.ts";

/** gatherKvCache by `gather-kv-cache.as.ts`. */
export function gatherKvCacheWasm(memories: WasmMemories, _context: KernelContext, args: GatherKvCacheArgs): void {
  checkGatherKvCache(args);
  const kernels = memories.ofCache("gatherKvCache", "cache", args.cache);
  const cache = kernels.resident("gatherKvCache", "cache", args.cache);
  const rows = kernels.output("gatherKvCache", "rows", args.rows);
  const count = args.slots.length;
  const { pointer, ints } = kernels.reserve(count * 4);
  ints.set(args.slots);
  const width = DTYPE_BYTES[cache.dtype];
  const [blockStride = 0, offsetStride = 0, headStride = 0] = cache.strides.map((stride) => stride * width);
  const [, blockSize = 1, heads = 0, dim = 0] = cache.shape;
  kernels.kernel("gatherKvCache")(
    cache.byteOffset,
    blockStride,
    offsetStride,
    headStride,
    blockSize,
    heads,
    dim * width,
    pointer,
    count,
    rows.byteOffset,
  );
}
