// Scores of a block of query rows against a tile of keys: S[row][key] = q_row . k_key.
//
// Two rows by four keys at a time: eight vectors of partial sums in registers, six loads for sixteen operations.

/**
 * Bytes from one row of scores to the next: a tile of at most 128 keys, and 16 more so that rows spread over the cache.
 * A constant, so that the rows of a block are constant offsets from one pointer.
 */
export const SCORE_STRIDE: usize = 528;

/**
 * `keyRows` points to `keys` (a multiple of 4) addresses of key rows, each to be moved by `offset`; rows are `rowBytes`
 * long, a multiple of 16.
 */
export function scores(
  queryRows: usize,
  rows: i32,
  keyRows: usize,
  offset: usize,
  keys: i32,
  rowBytes: i32,
  scoreRows: usize,
): void {
  for (let key = 0; key < keys; key += 4) {
    const pointers = keyRows + key * 4;
    const k0: usize = load<u32>(pointers) + offset;
    const k1: usize = load<u32>(pointers, 4) + offset;
    const k2: usize = load<u32>(pointers, 8) + offset;
    const k3: usize = load<u32>(pointers, 12) + offset;
    let query = queryRows;
    let target = scoreRows + key * 4;
    let row = 0;
    for (; row + 2 <= rows; row += 2) {
      twoRows(query, rowBytes, k0, k1, k2, k3, target);
      query += 2 * rowBytes;
      target += 2 * SCORE_STRIDE;
    }
    if (row < rows) oneRow(query, rowBytes, k0, k1, k2, k3, target);
  }
}

// @ts-ignore: decorator
@inline
function multiplyAdd(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/** The sums of four vectors' lanes, as one vector. */
// @ts-ignore: decorator
@inline
function sums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = halfSums(a, b);
  const cd = halfSums(c, d);
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 2, 4, 6), v128.shuffle<f32>(ab, cd, 1, 3, 5, 7));
}

/** Lanes 0 + 2 and 1 + 3 of both. (As 64-bit lanes, since some compilers take three instructions for a shuffle.) */
// @ts-ignore: decorator
@inline
function halfSums(a: v128, b: v128): v128 {
  const low = f64x2.replace_lane(a, 1, f64x2.extract_lane(b, 0));
  const high = f64x2.replace_lane(b, 0, f64x2.extract_lane(a, 1));
  return f32x4.add(low, high);
}

function twoRows(
  qa: usize,
  bytes: i32,
  k0: usize,
  k1: usize,
  k2: usize,
  k3: usize,
  target: usize,
): void {
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0);
  let b0 = f32x4.splat(0);
  let b1 = f32x4.splat(0);
  let b2 = f32x4.splat(0);
  let b3 = f32x4.splat(0);
  let qb = qa + bytes;
  const end = qb;
  const unrolled = qa + (bytes & ~31);
  while (qa < unrolled) {
    let a = v128.load(qa);
    let b = v128.load(qb);
    let k = v128.load(k0);
    a0 = multiplyAdd(a0, a, k);
    b0 = multiplyAdd(b0, b, k);
    k = v128.load(k1);
    a1 = multiplyAdd(a1, a, k);
    b1 = multiplyAdd(b1, b, k);
    k = v128.load(k2);
    a2 = multiplyAdd(a2, a, k);
    b2 = multiplyAdd(b2, b, k);
    k = v128.load(k3);
    a3 = multiplyAdd(a3, a, k);
    b3 = multiplyAdd(b3, b, k);
    a = v128.load(qa, 16);
    b = v128.load(qb, 16);
    k = v128.load(k0, 16);
    a0 = multiplyAdd(a0, a, k);
    b0 = multiplyAdd(b0, b, k);
    k = v128.load(k1, 16);
    a1 = multiplyAdd(a1, a, k);
    b1 = multiplyAdd(b1, b, k);
    k = v128.load(k2, 16);
    a2 = multiplyAdd(a2, a, k);
    b2 = multiplyAdd(b2, b, k);
    k = v128.load(k3, 16);
    a3 = multiplyAdd(a3, a, k);
    b3 = multiplyAdd(b3, b, k);
    qa += 32;
    qb += 32;
    k0 += 32;
    k1 += 32;
    k2 += 32;
    k3 += 32;
  }
  if (qa < end) {
    const a = v128.load(qa);
    const b = v128.load(qb);
    let k = v128.load(k0);
    a0 = multiplyAdd(a0, a, k);
    b0 = multiplyAdd(b0, b, k);
    k = v128.load(k1);
    a1 = multiplyAdd(a1, a, k);
    b1 = multiplyAdd(b1, b, k);
    k = v128.load(k2);
    a2 = multiplyAdd(a2, a, k);
    b2 = multiplyAdd(b2, b, k);
    k = v128.load(k3);
    a3 = multiplyAdd(a3, a, k);
    b3 = multiplyAdd(b3, b, k);
  }
  v128.store(target, sums(a0, a1, a2, a3));
  v128.store(target, sums(b0, b1, b2, b3), SCORE_STRIDE);
}

function oneRow(q: usize, bytes: i32, k0: usize, k1: usize, k2: usize, k3: usize, target: usize): void {
  let a0 = f32x4.splat(0);
  let a1 = f32x4.splat(0);
  let a2 = f32x4.splat(0);
  let a3 = f32x4.splat(0);
  for (let at = 0; at < bytes; at += 16) {
    const a = v128.load(q + at);
    a0 = multiplyAdd(a0, a, v128.load(k0 + at));
    a1 = multiplyAdd(a1, a, v128.load(k1 + at));
    a2 = multiplyAdd(a2, a, v128.load(k2 + at));
    a3 = multiplyAdd(a3, a, v128.load(k3 + at));
  }
  v128.store(target, sums(a0, a1, a2, a3));
}
