// What is streamed, joined, equals what is decoded at once, whatever the tokens.
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { MODEL_FOLDER } from "../../test/shipped-folder.ts";
import { StreamDecoder, Tokenizer } from "./tokenizer.ts";

const folder = mkdtempSync(join(tmpdir(), "lockstep-streaming-"));
afterAll(() => rmSync(folder, { recursive: true }));

const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const PIECES = ["▁a", "▁b", "▁x", "▁", "▁▁", "c", "é", "\uFEFF", "</w>", "##d", "e</w>", " ", "."];
const TOKENS = [...PIECES, ...BYTES];

/** A tokenizer of {@link TOKENS}, a special token and an added one, with the decoder given. */
function generate(decoder: object | null, model: object = {}): Tokenizer {
  const added = (id: number, content: string, special: boolean) => ({ id, content, special, normalized: false });
  const definition = {
    version: "1.0",
    added_tokens: [added(TOKENS.length, "[TOOL]", true), added(TOKENS.length + 1, "[ADDED]", false)],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder,
    model: {
      type: "BPE",
      unk_token: "c",
      byte_fallback: true,
      vocab: Object.fromEntries(TOKENS.map((token, id) => [token, id])),
      merges: [],
      ...model,
    },
  };
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(definition));
  return Tokenizer.open(folder);
}

const replace = { type: "Replace", pattern: { String: "▁" }, content: " " };
const strip = { type: "Strip", content: " ", start: 1, stop: 0 };
const llama2 = generate({ type: "Sequence", decoders: [replace, { type: "ByteFallback" }, { type: "Fuse" }, strip] });

/** A decoder that replaces in the text of all tokens. */
function joined(pattern: string | object, content: string): object {
  const what = typeof pattern === "string" ? { String: pattern } : pattern;
  return { type: "Sequence", decoders: [{ type: "Fuse" }, { type: "Replace", pattern: what, content }] };
}

function behindBytes(pattern: string, content: string): object {
  const inner = { type: "Sequence", decoders: [{ type: "Replace", pattern: { String: pattern }, content }] };
  return { type: "Sequence", decoders: [{ type: "ByteLevel" }, inner] };
}

const KINDS: readonly (readonly [string, Tokenizer, number])[] = [
  ["the shipped one", Tokenizer.open(MODEL_FOLDER), 4100],
  ["Llama 2 and Mistral", llama2, TOKENS.length + 4],
  ["Metaspace", generate({ type: "Metaspace", replacement: "▁" }), TOKENS.length + 4],
  ["byte level", generate({ type: "ByteLevel" }), TOKENS.length + 4],
  ["WordPiece", generate({ type: "WordPiece", prefix: "##", cleanup: true }), TOKENS.length + 4],
  ["BPEDecoder", generate({ type: "BPEDecoder" }, { end_of_word_suffix: "</w>" }), TOKENS.length + 4],
  ["no decoder", generate(null), TOKENS.length + 4],
  ["words replaced in the joined text", generate(joined("▁ac", "X")), TOKENS.length + 4],
  ["spaces of the joined text made one", generate(joined({ Regex: "[\\s▁]+" }, "_")), TOKENS.length + 4],
  ["words replaced behind byte level", generate(behindBytes("ac", "X")), TOKENS.length + 4],
];

test.each(KINDS)(
  "%s",
  (_name, tokenizer, ids) => {
    const early = fc.nat(TOKENS.length + 2);
    const token = fc.oneof(fc.nat(ids - 1), early, fc.nat(PIECES.length), fc.constant(TOKENS.length));
    fc.assert(
      fc.property(fc.array(token, { maxLength: 40 }), (tokens) => {
        const decoder = new StreamDecoder(tokenizer);
        const streamed = tokens.map((id) => decoder.push(id)).join("") + decoder.end();
        expect(streamed).toBe(tokenizer.decode(tokens));
      }),
      { seed: 20, numRuns: 1500 },
    );
  },
  120_000,
);

test("a token without text in the middle leaves the next word its space", () => {
  const [a, b, x] = [0, 1, 2];
  const decoder = new StreamDecoder(llama2, [a]);
  expect([b, TOKENS.length, x].map((id) => decoder.push(id)).join("") + decoder.end()).toBe(" b x");
});
