// Everything a rank computes besides attention, as one WebAssembly module over the rank's shared memory.
// Arguments are byte offsets into that memory; nothing is allocated and nothing is checked here (layers.ts checks).

export { addInto } from "./add.as";
export { argmax } from "./argmax.as";
export { embedBf16, embedF16, embedF32, embedInt8 } from "./embed.as";
export { isFiniteF16 } from "./finite.as";
export { linearBf16, linearF16, linearF32, linearFiniteF16 } from "./linear.as";
export { runProgram } from "./layer-program.as";
export { linearInt8 } from "./linear-int8.as";
export { quantiseInputs } from "./quantise-inputs.as";
export { quantiseBf16, quantiseF16, quantiseF32 } from "./quantise-weights.as";
export { rmsNorm } from "./rms-norm.as";
export { rotate } from "./rope.as";
export { rotations } from "./rotations.as";
export { swiGlu } from "./swiglu.as";
export { widenBf16, widenF16, widenF32 } from "./widen.as";
