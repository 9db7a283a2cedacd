// What a page runs: the digests of the wasm backend, by a function of the page.
import { openBackend } from "@lockstep/kernels";
import { digestsOf, openDigestHeap } from "./cases.ts";

Object.assign(globalThis, {
  async digests(turn: number): Promise<string[]> {
    const heap = openDigestHeap();
    await using backend = await openBackend("wasm", { heap });
    return digestsOf(backend, heap, turn);
  },
});
