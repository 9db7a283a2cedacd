// Records the digests of the wasm backend: `bun tests/invariant-digests/record-digests.ts`. To be run where what the mode
// computes has changed on purpose, such as another order of a dot product.
import { writeFileSync } from "node:fs";
import { openBackend } from "@lockstep/kernels";
import { digestsOf, openDigestHeap } from "./cases.ts";
import { RECORDED } from "./recorded-digests.ts";

const heap = openDigestHeap();
await using backend = await openBackend("wasm", { heap });
const digests = digestsOf(backend, heap, 0);
const again = digestsOf(backend, heap, 1);
const different = digests.findIndex((digest, at) => digest !== again[at]);
if (different !== -1) throw new Error(`case ${different} depends on how its keys are dealt: nothing is recorded`);
writeFileSync(RECORDED, `${digests.join("\n")}\n`);
console.log(`recorded ${digests.length} digests`);
