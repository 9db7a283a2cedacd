// Linear layer whose weights are int8 with an f32 scale for every group of 32 consecutive elements of a row.
//
//   q [tokens, groups, 32] i16 and s [tokens, groups] f32: the inputs, as quantise-inputs.as.ts writes them
//   w [outs, ins] i8 from -127 to 127, v [outs, groups] f32, y [tokens, outs] f32; groups = ins / 32 rounded up
//   y[t, o] = sum over groups g of v[o, g] * s[t, g] * (sum over i in g of w[o, i] * q[t, i])
//
// Grid: none, one call does the whole product on the calling thread.
// Ownership: one or two tokens (decode) take one weight row at a time, which is one stream of memory for the
// processor to run ahead of: reading 4 rows side by side, each a stream, takes a third longer. More tokens take 2
// weight rows at a time, 3 tokens over them (6 accumulators and the 4 vectors of a widened group), so that each weight
// is read from memory once and widened once for three tokens.
// Memory traffic: w once with its scales, 36 bytes for 32 weights; q once per output or two (from the caches); y once.
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

/** Products of 32 weights, widened, and the inputs at q, summed in four lanes. */
// @ts-ignore: decorator
@inline
function products(q: usize, w0: v128, w1: v128, w2: v128, w3: v128): v128 {
  return i32x4.add(
    i32x4.add(i32x4.dot_i16x8_s(w0, v128.load(q)), i32x4.dot_i16x8_s(w1, v128.load(q, 16))),
    i32x4.add(i32x4.dot_i16x8_s(w2, v128.load(q, 32)), i32x4.dot_i16x8_s(w3, v128.load(q, 48))),
  );
}

// @ts-ignore: decorator
@inline
function scaledAdd(acc: v128, sums: v128, scale: v128): v128 {
  return f32x4.add(acc, f32x4.mul(f32x4.convert_i32x4_s(sums), scale));
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
  const end = w + (ins & ~31);
  let acc = f32x4.splat(0);
  while (w < end) {
    const w0 = v128.load8x8_s(w);
    const w1 = v128.load8x8_s(w, 8);
    const w2 = v128.load8x8_s(w, 16);
    const w3 = v128.load8x8_s(w, 24);
    const scale = f32x4.mul(v128.load32_splat(v), v128.load32_splat(s));
    acc = scaledAdd(acc, products(q, w0, w1, w2, w3), scale);
    w += 32;
    v += 4;
    q += 64;
    s += 4;
  }
  return finished(acc, q, s, w, v, ins & 31);
}

/** Three tokens, whose inputs lie qPitch bytes apart and whose scales vPitch, against 2 weight rows. */
function threeByTwo(
  q: usize,
  s: usize,
  w: usize,
  v: usize,
  y: usize,
  ins: usize,
  qPitch: usize,
  vPitch: usize,
  yPitch: usize,
): void {
  const rest = ins & 31;
  const end = w + (ins & ~31);
  let a00 = f32x4.splat(0);
  let a01 = a00;
  let a10 = a00;
  let a11 = a00;
  let a20 = a00;
  let a21 = a00;
  while (w < end) {
    const s0 = v128.load32_splat(s);
    const s1 = v128.load32_splat(s + vPitch);
    const s2 = v128.load32_splat(s + 2 * vPitch);
    let scale = v128.load32_splat(v);
    let w0 = v128.load8x8_s(w);
    let w1 = v128.load8x8_s(w, 8);
    let w2 = v128.load8x8_s(w, 16);
    let w3 = v128.load8x8_s(w, 24);
    a00 = scaledAdd(a00, products(q, w0, w1, w2, w3), f32x4.mul(scale, s0));
    a10 = scaledAdd(a10, products(q + qPitch, w0, w1, w2, w3), f32x4.mul(scale, s1));
    a20 = scaledAdd(a20, products(q + 2 * qPitch, w0, w1, w2, w3), f32x4.mul(scale, s2));
    scale = v128.load32_splat(v + vPitch);
    w0 = v128.load8x8_s(w + ins);
    w1 = v128.load8x8_s(w + ins, 8);
    w2 = v128.load8x8_s(w + ins, 16);
    w3 = v128.load8x8_s(w + ins, 24);
    a01 = scaledAdd(a01, products(q, w0, w1, w2, w3), f32x4.mul(scale, s0));
    a11 = scaledAdd(a11, products(q + qPitch, w0, w1, w2, w3), f32x4.mul(scale, s1));
    a21 = scaledAdd(a21, products(q + 2 * qPitch, w0, w1, w2, w3), f32x4.mul(scale, s2));
    w += 32;
    v += 4;
    q += 64;
    s += 4;
  }
  store<f32>(y, finished(a00, q, s, w, v, rest));
  store<f32>(y, finished(a01, q, s, w + ins, v + vPitch, rest), 4);
  q += qPitch;
  s += vPitch;
  y += yPitch;
  store<f32>(y, finished(a10, q, s, w, v, rest));
  store<f32>(y, finished(a11, q, s, w + ins, v + vPitch, rest), 4);
  q += qPitch;
  s += vPitch;
  y += yPitch;
  store<f32>(y, finished(a20, q, s, w, v, rest));
  store<f32>(y, finished(a21, q, s, w + ins, v + vPitch, rest), 4);
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
  const qPitch = groups << 6;
  const vPitch = groups << 2;
  const yPitch = <usize>outs << 2;
  const rows = <usize>outs;
  const count = <usize>tokens;
  let o: usize = 0;
  if (count >= 3) {
    for (; o + 2 <= rows; o += 2) {
      const w0 = w + o * width;
      const v0 = v + o * vPitch;
      const y0 = y + (o << 2);
      let t: usize = 0;
      for (; t + 3 <= count; t += 3) {
        threeByTwo(q + t * qPitch, s + t * vPitch, w0, v0, y0 + t * yPitch, width, qPitch, vPitch, yPitch);
      }
      for (; t < count; t++) {
        store<f32>(y0 + t * yPitch, dot(q + t * qPitch, s + t * vPitch, w0, v0, width));
        store<f32>(y0 + t * yPitch, dot(q + t * qPitch, s + t * vPitch, w0 + width, v0 + vPitch, width), 4);
      }
    }
  }
  for (; o < rows; o++) {
    for (let t: usize = 0; t < count; t++) {
      const to = y + t * yPitch + (o << 2);
      store<f32>(to, dot(q + t * qPitch, s + t * vPitch, w + o * width, v + o * vPitch, width));
    }
  }
}
