import { Tensor } from "@lockstep/tensor";
import type { RankContext } from "../src/index.ts";
export function setup(context: RankContext) {
  const { heap, rank, size, world } = context;
  return {
    reduce(n: number): number[] {
      const x = Tensor.from(
        heap,
        "f32",
        [n],
        Array.from({ length: n }, (_, i) => i + rank * 100),
      );
      const y = Tensor.empty(heap, "f32", [n]);
      world.allReduce(x, y);
      const out = [...y.f32];
      x.free();
      y.free();
      return out.slice(0, 8);
    },
    bench(iters: number) {
      const r: Record<string, number> = {};
      const time = (name: string, f: () => void) => {
        for (let i = 0; i < iters / 2; i++) f();
        world.barrier();
        const t = performance.now();
        for (let i = 0; i < iters; i++) f();
        r[name] = ((performance.now() - t) / iters) * 1000;
      };
      time("barrier", () => world.barrier());
      for (const kb of [8 / 1024, 4, 16, 64, 256, 1024]) {
        const n = (kb * 1024) / 4;
        const x = Tensor.zeros(heap, "f32", [n]);
        const y = Tensor.zeros(heap, "f32", [n * size]);
        const z = Tensor.zeros(heap, "f32", [n]);
        time(`allGather ${kb}K`, () => world.allGather(x, y));
        time(`allReduce ${kb}K`, () => world.allReduce(x, z));
        time(`reduceScatter ${kb}K`, () => world.reduceScatter(y, x));
        x.free();
        y.free();
        z.free();
      }
      return r;
    },
  };
}
