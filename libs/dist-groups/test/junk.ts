// Values that no argument is made for.

const looked = (): never => {
  throw new Error("somebody looked");
};

const revocable = Proxy.revocable({}, {});
revocable.revoke();

/** By name, so that a failing case can be told. None is a tensor, a list of tensors, or an options object. */
export const JUNK: Readonly<Record<string, unknown>> = {
  null: null,
  true: true,
  "a text": "text",
  "an empty text": "",
  "a long text": "x".repeat(10_000),
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  "-1": -1,
  "-1e9": -1e9,
  "0.5": 0.5,
  "2 ** 31": 2 ** 31,
  "2 ** 53": 2 ** 53,
  "1e308": 1e308,
  "a bigint": 3n,
  "a symbol": Symbol("junk"),
  "a function": () => 1,
  "a list of numbers": [0, 1.5, Number.NaN],
  "a sparse list": new Array(3),
  "a list without end": Object.assign([], { length: 2 ** 32 - 1 }),
  "a date": new Date(0),
  "an object without a prototype": Object.create(null),
  "an object whose conversions throw": { toString: looked, valueOf: looked, toJSON: looked },
  "a revoked proxy": revocable.proxy,
};

export const JUNK_NAMES = Object.keys(JUNK);
