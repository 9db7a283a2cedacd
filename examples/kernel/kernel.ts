import { dcpCorrectAttnOut } from "@lockstep/attention";
import { openBackend } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";

const heap = SharedHeap.create(1 << 20);
await using backend = await openBackend("auto", { heap }); // a GPU if there is one, else WebAssembly SIMD
const partialOut = Tensor.from(heap, "f32", [1, 1, 2], [3, 5]); // this rank's attention over its own tokens [B, H, D]
const lses = Tensor.from(heap, "f32", [2, 1, 1], [0, Math.log(3)]); // the LSEs of both ranks [N, B, H]
const { out, lse } = await dcpCorrectAttnOut(backend, partialOut, lses, 0);
console.log([...out.toNumbers()], lse.at(0, 0)); // [ 0.75, 1.25 ] 1.3862943649291992: a quarter, and ln 4
