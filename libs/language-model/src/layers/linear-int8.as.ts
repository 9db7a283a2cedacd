// Linear layer whose weights are int8 with an f32 scale for every group of 32 consecutive elements of a row.
//
//   q [tokens, groups, 32] i16 and s [tokens, groups] f32: the inputs, as quantise-inputs.as.ts writes them
//   w [outs, ins] i8 from -127 to 127, v [outs, groups] f32, y [tokens, outs] f32; groups = ins / 32 rounded up
//   y[t, o] = sum over groups g of v[o, g] * s[t, g] * (sum over i in g of w[o, i] * q[t, i])
//
// Grid: none, one call does the whole product on the calling thread.
// Ownership: four weight rows at a time, one from each quarter of w: four long streams of memory, which a processor
// fetches ahead faster than one stream or than four rows side by side. They pass from the L1 cache over all tokens, one
// after another, and share the loads of a token's inputs.
// Memory traffic: w once with its scales, 36 bytes for 32 weights; q once per four outputs (from the caches); y once.
// Numerical contract: the sum within a group is exact: at most 32 * 127 * 32767 = 133165088 in magnitude, below 2^31.
// Its lane l of four holds the products with i mod 8 = 2 l or 2 l + 1; lanes are converted to f32 (rounded to nearest
// even), multiplied by v * s and added up group by group in ascending order, then (l0 + l1) + (l2 + l3). The last
// ins mod 32 products are summed as one integer, converted, multiplied by v * s and added last. Every element is
// summed so whatever the block it falls in: a token's result does not depend on how many are computed with it. A scale
// s of NaN, which stands for inputs that are not finite, makes every output of its token NaN.

// @ts-ignore: decorator
@inline
function total(acc: v128): f32 {
  return (
    f32x4.extract_lane(acc, 0) + f32x4.extract_lane(acc, 1) + (f32x4.extract_lane(acc, 2) + f32x4.extract_lane(acc, 3))
  );
}

/** Adds the products of a group's inputs and weights times both scales. */
// @ts-ignore: decorator
@inline
function addGroup(sums: v128, w: usize, v: usize, q0: v128, q1: v128, q2: v128, q3: v128, scale: v128): v128 {
  const integers = i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(v128.load8x8_s(w), q0), i32x4.dot_i16x8_s(v128.load8x8_s(w, 8), q1)),
    i32x4.add(i32x4.dot_i16x8_s(v128.load8x8_s(w, 16), q2), i32x4.dot_i16x8_s(v128.load8x8_s(w, 24), q3)),
  );
  const scales = f32x4.mul(f32x4.splat(load<f32>(v)), scale);
  return f32x4.add(sums, f32x4.mul(f32x4.convert_i32x4_s(integers), scales));
}

/** The whole sum: the lanes, and the `rest` products of the last, short group, if there is one. */
function finished(acc: v128, q: usize, s: usize, w: usize, v: usize, rest: usize): f32 {
  const sum = total(acc);
  if (rest == 0) return sum;
  let last: i32 = 0;
  for (let i: usize = 0; i < rest; i++) last += <i32>load<i16>(q + (i << 1)) * <i32>load<i8>(w + i);
  return sum + <f32>last * (load<f32>(v) * load<f32>(s));
}

/** One token against one weight row. */
function dot(q: usize, s: usize, w: usize, v: usize, ins: usize): f32 {
  const body = ins & ~31;
  let sums = f32x4.splat(0);
  for (let k: usize = 0; k < body; k += 32) {
    const scale = f32x4.splat(load<f32>(s));
    sums = addGroup(sums, w + k, v, v128.load(q), v128.load(q, 16), v128.load(q, 32), v128.load(q, 48), scale);
    q += 64;
    s += 4;
    v += 4;
  }
  return finished(sums, q, s, w + body, v, ins & 31);
}

/** y [tokens, outs] of quantised inputs q and s, and of weights w with their scales v, all contiguous. */
export function linearInt8(
  q: usize,
  s: usize,
  w: usize,
  v: usize,
  y: usize,
  tokens: i32,
  outs: i32,
  ins: i32,
): void {
  const groups = (<usize>ins + 31) >> 5;
  const width = <usize>ins;
  const body = width & ~31;
  const rest = width & 31;
  const qPitch = groups << 6;
  const vPitch = groups << 2;
  const yPitch = <usize>outs << 2;
  const quarter = <usize>outs >> 2;
  const wJump = quarter * width;
  const vJump = quarter * vPitch;
  const yJump = quarter << 2;
  for (let o: usize = 0; o < quarter; o++) {
    const w0 = w + o * width;
    const w1 = w0 + wJump;
    const w2 = w1 + wJump;
    const w3 = w2 + wJump;
    const v0 = v + o * vPitch;
    const v1 = v0 + vJump;
    const v2 = v1 + vJump;
    const v3 = v2 + vJump;
    for (let t: usize = 0; t < <usize>tokens; t++) {
      let qt = q + t * qPitch;
      const st = s + t * vPitch;
      let a0 = f32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      for (let k: usize = 0; k < body; k += 32) {
        const q0 = v128.load(qt);
        const q1 = v128.load(qt, 16);
        const q2 = v128.load(qt, 32);
        const q3 = v128.load(qt, 48);
        const g = k >> 3;
        const scale = f32x4.splat(load<f32>(st + g));
        a0 = addGroup(a0, w0 + k, v0 + g, q0, q1, q2, q3, scale);
        a1 = addGroup(a1, w1 + k, v1 + g, q0, q1, q2, q3, scale);
        a2 = addGroup(a2, w2 + k, v2 + g, q0, q1, q2, q3, scale);
        a3 = addGroup(a3, w3 + k, v3 + g, q0, q1, q2, q3, scale);
        qt += 64;
      }
      const last = body >> 3;
      let to = y + t * yPitch + (o << 2);
      store<f32>(to, finished(a0, qt, st + last, w0 + body, v0 + last, rest));
      to += yJump;
      store<f32>(to, finished(a1, qt, st + last, w1 + body, v1 + last, rest));
      to += yJump;
      store<f32>(to, finished(a2, qt, st + last, w2 + body, v2 + last, rest));
      to += yJump;
      store<f32>(to, finished(a3, qt, st + last, w3 + body, v3 + last, rest));
    }
  }
  for (let o = quarter << 2; o < <usize>outs; o++) {
    for (let t: usize = 0; t < <usize>tokens; t++) {
      const to = y + t * yPitch + (o << 2);
      store<f32>(to, dot(q + t * qPitch, s + t * vPitch, w + o * width, v + o * vPitch, width));
    }
  }
}
