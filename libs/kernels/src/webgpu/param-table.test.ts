import { expect, test } from "bun:test";
import { ParamTable } from "./param-table.ts";

const WGSL = `
struct Place {
  first: u32, // in units
  row_stride: u32,
}
struct Params {
  rows: u32,
  // f32: of scores
  soft_cap: f32,
  place: Place,
  low: i32,
}`;
const NAMES = ["rows", "softCap", "placeFirst", "placeRowStride", "low"] as const;

test("values go where the struct has them, floats as their bits", () => {
  const table = new ParamTable(WGSL, NAMES);
  const words = table.pack({ low: -1, placeRowStride: 4, placeFirst: 3, softCap: 0.1, rows: 2 });
  expect([...words]).toEqual([2, 0x3dcccccd, 3, 4, 0xffffffff]);
  expect([...table.pack({ rows: 1, softCap: 0, placeFirst: 0, placeRowStride: 0, low: 7 })]).toEqual([1, 0, 0, 0, 7]);
});

test("a list that is not the struct's is refused: another order, a field more, a field less, another name", () => {
  const [rows, softCap, placeFirst, placeRowStride, low] = NAMES;
  for (const names of [
    [softCap, rows, placeFirst, placeRowStride, low],
    [...NAMES, "more"],
    [rows, softCap, placeFirst, placeRowStride],
    [rows, "soft_cap", placeFirst, placeRowStride, low],
  ]) {
    expect(() => new ParamTable(WGSL, names)).toThrow("expected the parameters");
  }
  expect(() => new ParamTable("struct Other { a: u32 }", ["a"])).toThrow("struct Params");
});
