// A kernel on whatever there is, which is WebAssembly where no leave is given to load native libraries.
import { dcpCorrectAttnOut } from "@lockstep/attention";
import { openBackend } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";

const heap = SharedHeap.create(1 << 20);
const backend = await openBackend("auto", { heap });
const partialOut = Tensor.from(heap, "f32", [1, 1, 2], [3, 5]);
const lses = Tensor.from(heap, "f32", [2, 1, 1], [0, Math.log(3)]);
const { out, lse } = await dcpCorrectAttnOut(backend, partialOut, lses, 0);
console.log([...out.toNumbers()], lse.at(0, 0));
await backend.close();
