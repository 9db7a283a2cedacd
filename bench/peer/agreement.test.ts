import { describe, expect, test } from "bun:test";
import { Agreement } from "./agreement.ts";

const made = (name: string, tokens: readonly number[]) => [{ name, promptRate: 1, decodeRate: 1, tokens }];
const twelve = Array.from({ length: 12 }, (_, index) => index);
const otherAt = (at: number): number[] => twelve.map((token, index) => (index === at ? 99 : token));

describe("tokens of both sides", () => {
  test("have to be those that were expected, every one, but for rounded weights", () => {
    const agreement = new Agreement();
    agreement.expect("short", "transformers", twelve);
    agreement.check("ours", made("short", twelve));
    expect(() => agreement.check("llama.cpp", made("short", otherAt(11)))).toThrow(
      "wrong tokens, short: token 12 of llama.cpp is 99, that of transformers is 11",
    );
    expect(agreement.partial).toEqual([]);
    agreement.check("llama.cpp q8_0", made("short", otherAt(0)), true);
    expect(agreement.partial).toEqual([
      "short: token 1 of llama.cpp q8_0 is 99, that of transformers is 0 (0 of 12 agree)",
    ]);
  });

  test("have to begin alike where nothing was expected, and what parts later is told", () => {
    const agreement = new Agreement();
    agreement.check("ours", made("long", twelve));
    expect(() => agreement.check("llama.cpp", made("long", otherAt(7)))).toThrow("wrong tokens, long: token 8");
    agreement.check("llama.cpp", made("long", otherAt(8)));
    expect(agreement.partial).toEqual(["long: token 9 of llama.cpp is 99, that of ours is 8 (8 of 12 agree)"]);
  });

  test("of rounded weights are nothing that others are held to", () => {
    const agreement = new Agreement();
    agreement.check("llama.cpp q8_0", made("long", otherAt(0)), true);
    agreement.check("ours", made("long", twelve));
    agreement.check("llama.cpp", made("long", twelve));
    expect(agreement.partial).toEqual([]);
  });
});
