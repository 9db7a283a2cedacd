// What the page runs: a world whose ranks are its workers, and a kernel on its GPU, or in WebAssembly without one.
import { dcpCorrectAttnOut } from "@lockstep/attention";
import { openWorld } from "@lockstep/dist-groups";
import { openBackend } from "@lockstep/kernels";
import { SharedHeap, Tensor } from "@lockstep/tensor";

function show(id: string, text: string): void {
  const place = document.getElementById(id);
  if (place !== null) place.textContent = text;
}

async function countTokens(): Promise<readonly number[]> {
  await using world = await openWorld<typeof import("./program.ts")>({
    size: 4,
    heapBytesPerRank: 16 << 20,
    worker: () => new Worker(new URL("./worker.js", import.meta.url), { type: "module" }),
  });
  for (let token = 0; token < 10; token++) await world.call("step", []);
  return await world.call("step", []);
}

try {
  show("held", (await countTokens()).join(", "));
  const heap = SharedHeap.create(1 << 20);
  await using backend = await openBackend("auto", { heap });
  show("backend", backend.name);
  const partialOut = Tensor.from(heap, "f32", [1, 1, 2], [3, 5]);
  const lses = Tensor.from(heap, "f32", [2, 1, 1], [0, Math.log(3)]);
  const { out } = await dcpCorrectAttnOut(backend, partialOut, lses, 0);
  show("kernel", [...out.toNumbers()].join(", "));
} catch (error) {
  show("held", `${error}`);
}
