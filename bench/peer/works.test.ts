import { describe, expect, test } from "bun:test";
import { randomPrompts } from "./prompts.ts";
import { comparisons, worksAndRows } from "./rows.ts";
import { timeWorks, type Work } from "./works.ts";
import { outcomeOf } from "../../tests/outcome-of.ts";

async function* counting(prompt: readonly number[], tokens: number): AsyncGenerator<number, void> {
  for (let token = 0; token < tokens; token++) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    yield (prompt[0] ?? 0) + token;
  }
}

const work: Work = { name: "short", prompt: [5, 6], tokens: 3, warmUpSeconds: 0, seconds: 0 };

describe("timing works", () => {
  test("gives rates and the tokens", async () => {
    const [time] = await timeWorks([work], counting);
    expect(time?.tokens).toEqual([5, 6, 7]);
    // Two tokens after the first one, and two of the prompt before it, of at least 1 ms each on any machine.
    for (const rate of [time?.decodeRate, time?.promptRate]) {
      expect(rate).toBeGreaterThan(0);
      expect(rate).toBeLessThan(2000);
    }
  });

  test("refuses texts that end early, and rounds that differ", async () => {
    const short = timeWorks([work], (prompt) => counting(prompt, 2));
    expect(await outcomeOf(short)).toThrow("short: 2 tokens instead of 3");
    let round = 0;
    const differing = timeWorks([{ ...work, warmUpSeconds: 1e-9 }], (_, tokens) => counting([round++], tokens));
    expect(await outcomeOf(differing)).toThrow("short: other tokens in another round");
  });
});

describe("works and rows", () => {
  const config = { vocabularySize: 1000 } as Parameters<typeof randomPrompts>[0];

  test("all, or those of some text, with the works that they need", () => {
    const prompts = randomPrompts(config);
    const all = worksAndRows(prompts, 96, "", 8192);
    expect(all.rows.length).toBe(7);
    expect(all.works.map(({ name, prompt, tokens }) => [name, prompt.length, tokens])).toEqual([
      ["cold", 7, 96],
      ["short", 7, 96],
      ["medium", 1115, 96],
      ["long", 5900, 96],
      ["command", 7, 1],
    ]);
    const some = worksAndRows(prompts, 96, "1,115", 8192);
    expect(some.rows.map(({ label }) => label)).toEqual(["decode after 1,115 tokens", "prompt of 1,115 tokens"]);
    expect(some.works.map(({ name }) => name)).toEqual(["medium"]);
    expect(worksAndRows(prompts, 96, "nothing", 8192).rows).toEqual([]);
    // A model of 2,048 positions has no room for the long prompt.
    expect(worksAndRows(prompts, 96, "prompt of", 2048).rows.map(({ work }) => work)).toEqual(["medium"]);
  });

  test("q8_0 is compared with int8, others with weights as stored", () => {
    expect(comparisons(["q8_0", "f32", "f16"])).toEqual([
      { own: "stored", peers: ["f32", "f16"] },
      { own: "int8", peers: ["q8_0"] },
    ]);
    expect(comparisons(["q8_0"])).toEqual([{ own: "int8", peers: ["q8_0"] }]);
  });
});
