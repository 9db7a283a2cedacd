// Everything a rank computes besides attention, as one WebAssembly module over the rank's shared memory.
// Arguments are byte offsets into that memory; nothing is allocated and nothing is checked here (layers.ts checks).

export { addInto } from "./add.as";
export { argmax } from "./argmax.as";
export { embed } from "./embed.as";
export { linear } from "./linear.as";
export { rmsNorm } from "./rms-norm.as";
export { rotate } from "./rope.as";
export { swiGlu } from "./swiglu.as";
export { widenBf16, widenF16, widenF32 } from "./widen.as";
