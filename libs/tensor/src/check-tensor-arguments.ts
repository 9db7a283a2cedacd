import { describe } from "./describe.ts";
import { DTYPES, type DType } from "./dtype.ts";
import { ArgumentError } from "./errors.ts";
import { formatShape } from "./shape.ts";

/** Throws ArgumentError unless `dtype` is one. */
export function checkDType(operation: string, argument: string, dtype: DType): void {
  if (!DTYPES.includes(dtype)) {
    throw new ArgumentError(operation, argument, `one of ${DTYPES.join(", ")}`, describe(dtype));
  }
}

/** Throws ArgumentError unless `values` is a list of `count` numbers; typed arrays of numbers are not searched. */
export function checkNumbers(
  operation: string,
  values: ArrayLike<number>,
  count: number,
  shape?: readonly number[],
): void {
  const expected = shape === undefined ? `${count} numbers` : `${count} numbers for shape ${formatShape(shape)}`;
  const isList = typeof values === "object" && values !== null && Number.isInteger(values.length);
  if (!isList) throw new ArgumentError(operation, "values", expected, describe(values));
  if (values.length !== count) {
    throw new ArgumentError(operation, "values", expected, `${values.length} numbers`);
  }
  if (ArrayBuffer.isView(values) && !(values instanceof BigInt64Array || values instanceof BigUint64Array)) return;
  for (let index = 0; index < count; index++) {
    const value: unknown = values[index];
    if (typeof value !== "number") {
      throw new ArgumentError(operation, "values", expected, `${describe(value)} at index ${index}`);
    }
  }
}
