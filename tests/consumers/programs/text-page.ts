// A page that fetches a model and continues a text by it, on ranks that are its workers.
import { fetchModel, Generator, openModel } from "@lockstep/language-model";

/** The tokens that follow a prompt, and how many bytes of weights came. */
async function continueText(prompt: readonly number[], maxTokens: number): Promise<object> {
  let weightBytes = 0;
  const files = await fetchModel(new URL("model", location.href), {
    onBytes: (bytes) => {
      weightBytes = bytes;
    },
  });
  await using generator = await Generator.open(openModel(files), {
    world: 2,
    backend: "wasm",
    capacity: 128,
    worker: () => new Worker(new URL("./generator-rank.ts", import.meta.url), { type: "module" }),
  });
  const tokens: number[] = [];
  for await (const token of generator.generate(prompt, { maxTokens })) tokens.push(token);
  return { tokens, weightBytes };
}

Object.assign(globalThis, { continueText });
