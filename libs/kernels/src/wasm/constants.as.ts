// Vector constants of the inner loops, as variables: compilers keep a variable in a register or load it, but build many
// constants anew, in three or four instructions, wherever they are used. They belong to the instance, not to the shared
// memory, and are set by `initialise`.

export let SIGN: v128 = i32x4.splat(0);
export let MAGNITUDE: v128 = i32x4.splat(0);
export let EXPONENT: v128 = i32x4.splat(0);
export let F16_MASK: v128 = i32x4.splat(0);
export let F16_SHIFT: v128 = i32x4.splat(0);
export let TWO_112: v128 = i32x4.splat(0);
export let F8_MASK: v128 = i32x4.splat(0);
export let TWO_120: v128 = i32x4.splat(0);
/** The two upper bytes of the f32 that equals each of the sixteen smallest e4m3 magnitudes. */
export let F8_UPPER: v128 = i32x4.splat(0);
export let F8_LOWER: v128 = i32x4.splat(0);
export let LOG2_E: v128 = i32x4.splat(0);
export let ROUNDER: v128 = i32x4.splat(0);
export let LN2_HIGH: v128 = i32x4.splat(0);
export let LN2_LOW: v128 = i32x4.splat(0);
export let EXP_FLOOR: v128 = i32x4.splat(0);
export let EXP_2: v128 = i32x4.splat(0);
export let EXP_3: v128 = i32x4.splat(0);
export let EXP_4: v128 = i32x4.splat(0);
export let EXP_5: v128 = i32x4.splat(0);
export let EXP_6: v128 = i32x4.splat(0);
export let EXP_7: v128 = i32x4.splat(0);
export let EXP2_FLOOR: v128 = i32x4.splat(0);
export let EXP2_1: v128 = i32x4.splat(0);
export let EXP2_2: v128 = i32x4.splat(0);
export let EXP2_3: v128 = i32x4.splat(0);
export let EXP2_4: v128 = i32x4.splat(0);
export let EXP2_5: v128 = i32x4.splat(0);
export let EXP2_6: v128 = i32x4.splat(0);

/** Must be called once, before any kernel. */
export function initialise(): void {
  SIGN = i32x4.splat(0x80000000);
  MAGNITUDE = i32x4.splat(0x7fffffff);
  EXPONENT = i32x4.splat(0x7f800000);
  F16_MASK = i32x4.splat(0x8fffe000);
  F16_SHIFT = i32x4.splat(0x2000);
  TWO_112 = f32x4.splat(reinterpret<f32>(0x77800000));
  F8_MASK = i32x4.splat(0x87f00000);
  TWO_120 = f32x4.splat(reinterpret<f32>(0x7b800000));
  F8_UPPER = i8x16(0, 59, 59, 59, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60, 60);
  F8_LOWER = i8x16(0, 0, -128, -64, 0, 32, 64, 96, -128, -112, -96, -80, -64, -48, -32, -16);
  LOG2_E = f32x4.splat(1.44269504088896341);
  ROUNDER = f32x4.splat(12583039);
  LN2_HIGH = f32x4.splat(0.693359375);
  LN2_LOW = f32x4.splat(2.12194440e-4);
  EXP_FLOOR = f32x4.splat(-100);
  EXP_2 = f32x4.splat(0.5);
  EXP_3 = f32x4.splat(1.6666665459e-1);
  EXP_4 = f32x4.splat(4.1665795894e-2);
  EXP_5 = f32x4.splat(8.3334519073e-3);
  EXP_6 = f32x4.splat(1.3981999507e-3);
  EXP_7 = f32x4.splat(1.9875691500e-4);
  EXP2_FLOOR = f32x4.splat(-150);
  EXP2_1 = f32x4.splat(6.931472028550421e-1);
  EXP2_2 = f32x4.splat(2.402264791363012e-1);
  EXP2_3 = f32x4.splat(5.550332471162809e-2);
  EXP2_4 = f32x4.splat(9.618437357674640e-3);
  EXP2_5 = f32x4.splat(1.339887440266574e-3);
  EXP2_6 = f32x4.splat(1.535336188319500e-4);
}
