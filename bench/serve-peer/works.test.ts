import { describe, expect, test } from "bun:test";
import { type Answer, runClients, type TextPart } from "./clients.ts";
import { completionsRoute } from "./completions-route.ts";
import { Differing } from "./differing.ts";
import { askOverHttp } from "./http-client.ts";
import { LlamaCppTexts } from "./llama-cpp-texts.ts";
import { LONGEST, makeRequests, SHORTEST, type TextRequest } from "./requests.ts";
import { header, row } from "./rows.ts";
import { outcomeOf } from "../../tests/outcome-of.ts";

/** Continues a prompt by its last token's successors, a part each. */
async function* counting({ prompt, maxTokens }: TextRequest): AsyncGenerator<TextPart, void> {
  for (let made = 1; made <= maxTokens; made++) {
    await Bun.sleep(1);
    const token = (prompt.at(-1) ?? 0) + made;
    yield { text: `${token} `, tokens: [token] };
  }
}

const answer = (tokens: readonly number[], text = tokens.join(" ")): Answer => ({ tokens, text, firstMs: 1 });

describe("requests", () => {
  const texts = [Array.from({ length: 100 }, (_, at) => at), [1, 2, 3]];

  test("are parts of long texts, the same for a seed and others for another", () => {
    const requests = makeRequests(texts, 50, 24, 1);
    expect(requests.length).toBe(50);
    for (const { prompt, maxTokens } of requests) {
      expect(maxTokens).toBe(24);
      expect(prompt.length).toBeGreaterThanOrEqual(SHORTEST);
      expect(prompt.length).toBeLessThanOrEqual(LONGEST);
      const [start = Number.NaN] = prompt;
      expect(prompt).toEqual(prompt.map((_, at) => start + at));
    }
    expect(makeRequests(texts, 50, 24, 1)).toEqual(requests);
    expect(makeRequests(texts, 50, 24, 2)).not.toEqual(requests);
  });

  test("need a text that is long enough", () => {
    expect(() => makeRequests([[1, 2, 3]], 1, 24, 1)).toThrow("a text of at least 60 tokens");
  });
});

describe("clients", () => {
  const requests = [5, 10, 15, 20, 25].map((token) => ({ prompt: [token], maxTokens: 3 }));

  test("are so many at once, and answers are in the order of the requests", async () => {
    let [now, most] = [0, 0];
    const { answers, seconds } = await runClients(requests, 2, async function* (request) {
      most = Math.max(most, ++now);
      yield* counting(request);
      now--;
    });
    expect(most).toBe(2);
    expect(answers.map(({ tokens }) => tokens)).toEqual(
      requests.map(({ prompt: [at = 0] }) => [at + 1, at + 2, at + 3]),
    );
    expect(answers[0]?.text).toBe("6 7 8 ");
    for (const { firstMs } of answers) expect(firstMs).toBeGreaterThan(0);
    expect(seconds).toBeGreaterThan(0);
  });

  test("fail when a text does", async () => {
    const failing = runClients(requests, 2, async function* (request) {
      if (request.prompt[0] === 15) throw new Error("no text");
      yield* counting(request);
    });
    expect(await outcomeOf(failing)).toThrow("no text");
  });
});

describe("the least server", () => {
  test("streams what its client reads; fewer tokens than wanted, and a failure in a stream, are refused", async () => {
    const generate = (request: TextRequest): AsyncIterable<TextPart> => {
      if (request.prompt[0] === 9) throw new Error("broken");
      return counting({ ...request, maxTokens: Math.min(request.maxTokens, 4) });
    };
    const routes = { "/v1/completions": { POST: completionsRoute(generate) } };
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      routes,
      error: () => new Response("no", { status: 500 }),
    });
    try {
      const url = `http://127.0.0.1:${server.port}`;
      const ask = (token: number, maxTokens: number) =>
        runClients([{ prompt: [token], maxTokens }], 1, (request) => askOverHttp(url, request));
      expect((await ask(1, 4)).answers[0]?.text).toBe("2 3 4 5 ");
      expect(await outcomeOf(ask(1, 5))).toThrow("made 4 tokens instead of 5");
      expect(await outcomeOf(ask(9, 4))).toThrow("answered 500: no");
    } finally {
      await server.stop(true);
    }
  });
});

describe("sequences of llama.cpp", () => {
  /** Bytes of "a", of an accented "e" in two tokens, and of "b". */
  const BYTES: Readonly<Record<number, readonly number[]>> = { 1: [97], 2: [0xc3], 3: [0xa9], 4: [98] };
  const model = {
    detokenize: (tokens: readonly number[]) =>
      new TextDecoder().decode(Uint8Array.from(tokens.flatMap((token) => BYTES[token] ?? []))),
  };
  const sequence = (made: readonly number[]) => {
    const cleared = { times: 0 };
    return {
      cleared,
      async clearHistory() {
        cleared.times++;
      },
      async *evaluate() {
        yield* made;
      },
    };
  };

  test("tell whole characters, and wait for a sequence that is free", async () => {
    const one = sequence([1, 2, 3, 4, 1]);
    const texts = new LlamaCppTexts(model, [one]);
    const requests = [4, 5, 2].map((maxTokens) => ({ prompt: [7], maxTokens }));
    const { answers } = await runClients(requests, 3, (request) => texts.generate(request));
    expect(answers.map(({ text }) => text)).toEqual(["a\u00e9b", "a\u00e9ba", "a\ufffd"]);
    expect(answers[1]?.tokens).toEqual([1, 2, 3, 4, 1]);
    expect(one.cleared.times).toBe(3);
    // A text that fails gives its sequence back too.
    const failing = runClients([{ prompt: [7], maxTokens: 6 }], 1, (request) => texts.generate(request));
    expect(await outcomeOf(failing)).toThrow("made 5 tokens instead of 6");
    expect((await runClients(requests, 1, (request) => texts.generate(request))).answers.length).toBe(3);
  });
});

describe("texts of both sides", () => {
  test("are compared by tokens where both tell them, else by text", () => {
    const differing = new Differing();
    differing.add([answer([1, 2, 3]), answer([1, 2, 3])], [answer([1, 2, 3], "other"), answer([1, 2, 4])]);
    expect(differing.share).toBe(0.5);
    expect(`${differing}`).toBe("1 of 2 texts differ, the first: token 3 is 3 and 4");
    differing.add([answer([], "a"), answer([], "b")], [answer([], "a"), answer([], "c")]);
    expect(differing.share).toBe(0.5);
    expect(() => differing.add([], [answer([1])])).toThrow("0 answers of ours, but 1 of theirs");
    const texts = new Differing();
    texts.add([answer([], "a")], [answer([], "b")]);
    expect(`${texts}`).toBe('1 of 1 texts differ, the first: "a" and "b"');
    expect(`${new Differing()}`).toBe("0 of 0 texts differ");
  });
});

describe("rows", () => {
  const of = (...rates: readonly number[]) => rates.map((rate, pair) => ({ rate, firstMs: 10 * (pair + 1) }));

  test("hold medians, and the median of the pairs' ratios", () => {
    const cells = row(8, { side: "ours", times: of(100, 300, 200) }, [{ side: "theirs", times: of(100, 100, 400) }]);
    expect(cells).toEqual(["8", "200/s", "100/s", "1.00", "0.50", "3.00", "20 ms", "20 ms"]);
    expect(header("ours", ["theirs"]).length).toBe(cells.length);
  });

  test("need as many loads of both sides", () => {
    const theirs = [{ side: "theirs", times: of(1, 2) }];
    expect(() => row(1, { side: "ours", times: of(1) }, theirs)).toThrow("2 loads of theirs to 1");
  });
});
