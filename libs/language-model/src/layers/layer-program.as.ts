// Runs a recorded sequence of layers (layer-program.ts) in one call: an engine's way from JavaScript into WebAssembly,
// with its checks before, is taken once for the sequence instead of once for each layer.
//
// Grid: none, the layers run one after another on the calling thread, each as its own file says.
// Memory traffic: 40 bytes a layer besides its own. Numerical contract: the layers'.
//
// A layer is 10 words: its number below, and its arguments in order. The numbers are those of OPERATIONS in
// layer-program.ts; layer-program.test.ts holds the two sides to each other.

import { addInto } from "./add.as";
import { embedBf16, embedF16, embedF32, embedInt8 } from "./embed.as";
import { linearBf16, linearF16, linearF32, linearFiniteF16 } from "./linear.as";
import { linearInt8 } from "./linear-int8.as";
import { quantiseInputs } from "./quantise-inputs.as";
import { rmsNorm } from "./rms-norm.as";
import { rotate } from "./rope.as";
import { rotations } from "./rotations.as";
import { swiGlu } from "./swiglu.as";

/** Words of one layer. */
const WORDS: usize = 10;

/** `count` layers from the address `at` on. */
export function runProgram(at: usize, count: i32): void {
  for (let i: i32 = 0; i < count; i++, at += WORDS << 2) {
    const a = load<u32>(at, 4);
    const b = load<u32>(at, 8);
    const c = load<u32>(at, 12);
    const d = load<u32>(at, 16);
    const e = load<u32>(at, 20);
    const f = load<u32>(at, 24);
    const g = load<u32>(at, 28);
    const h = load<u32>(at, 32);
    switch (load<u32>(at)) {
      case 0:
        linearF32(a, b, c, d, e, f, g);
        break;
      case 1:
        linearBf16(a, b, c, d, e, f, g);
        break;
      case 2:
        linearF16(a, b, c, d, e, f, g);
        break;
      case 3:
        linearFiniteF16(a, b, c, d, e, f, g);
        break;
      case 4:
        linearInt8(a, b, c, d, e, f, g, h);
        break;
      case 5:
        quantiseInputs(a, b, c, d, e);
        break;
      case 6:
        rmsNorm(a, b, c, d, e, load<f32>(at, 24));
        break;
      case 7:
        rotate(a, b, c, d, e, f);
        break;
      case 8:
        swiGlu(a, b, c, d);
        break;
      case 9:
        addInto(a, b, c);
        break;
      case 10:
        embedF32(a, b, c, d, e, f, g);
        break;
      case 11:
        embedBf16(a, b, c, d, e, f, g);
        break;
      case 12:
        embedF16(a, b, c, d, e, f, g);
        break;
      case 13:
        embedInt8(a, b, c, d, e, f, g, h);
        break;
      case 14:
        rotations(a, b, c, d, e, f, g);
        break;
      default:
        unreachable();
    }
  }
}
