// Packing of sequences, number by number.
import { type Float64Op, input, sizeOf } from "./corpus-values.ts";

/** Sequences into a padded batch. */
export const packSeq: Float64Op = ({ pad = "-inf" }, inputs, mistake) => {
  const [x, lengths] = [input(inputs, "x"), Array.from(input(inputs, "lengths").numbers)];
  const [, ...columns] = x.shape;
  const width = sizeOf(columns);
  const longest = Math.max(0, ...lengths);
  const padding = mistake === "pad-zero" ? 0 : pad === "-inf" ? Number.NEGATIVE_INFINITY : pad;
  const numbers = new Float64Array(lengths.length * longest * width).fill(padding);
  let from = 0;
  for (const [sequence, length] of lengths.entries()) {
    const kept = mistake === "last-token-dropped" ? length - 1 : length;
    for (let token = 0; token < kept; token++) {
      const row = mistake === "packed-to-the-right" ? longest - length + token : token;
      for (let column = 0; column < width; column++) {
        const at = (sequence * longest + row) * width + column;
        numbers[at] = x.numbers[(from + token) * width + column] ?? Number.NaN;
      }
    }
    from += length;
  }
  return { packed: { dtype: x.dtype, shape: [lengths.length, longest, ...columns], numbers, tolerance: "exact" } };
};

/** A padded batch into sequences. */
export const unpackSeq: Float64Op = (_, inputs, mistake) => {
  const [packed, lengths] = [input(inputs, "packed"), Array.from(input(inputs, "lengths").numbers)];
  const [, longest = 0, ...columns] = packed.shape;
  const width = sizeOf(columns);
  const rows = lengths.flatMap((length, sequence) => {
    const first = mistake === "packed-to-the-right" ? longest - length : 0;
    return Array.from({ length }, (_, token) => sequence * longest + first + token);
  });
  const numbers = rows.flatMap((row, index) =>
    Array.from({ length: width }, (_, column) => {
      const from = mistake === "padding-not-skipped" ? index : row;
      return packed.numbers[from * width + column] ?? Number.NaN;
    }),
  );
  return { unpacked: { dtype: packed.dtype, shape: [rows.length, ...columns], numbers, tolerance: "exact" } };
};
