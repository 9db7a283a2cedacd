// Small tokenizer.json files of every kind of model that the demo reads.
const letters = [..."abcdefghijklmnopqrstuvwxyzAT,.12"];

function vocabulary(...more: readonly string[]): Record<string, number> {
  return Object.fromEntries(["<unk>", "<s>", ...letters, ...more].map((token, id) => [token, id]));
}

const COMMON = {
  version: "1.0",
  truncation: null,
  padding: null,
  added_tokens: [
    { id: 1, content: "<s>", single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
  ],
  post_processor: {
    type: "TemplateProcessing",
    single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
    pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
    special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
  },
};

/** As GPT-2's, SentencePiece's (BPE and Unigram) and BERT's. */
export const TOKENIZER_DEFINITIONS: readonly Readonly<Record<string, unknown>>[] = [
  {
    ...COMMON,
    normalizer: { type: "NFC" },
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", unk_token: "<unk>", vocab: vocabulary("Ġ", "te", "xt", "Ġt"), merges: ["t e", "x t", "Ġ t"] },
  },
  {
    ...COMMON,
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: { type: "BPE", unk_token: "<unk>", vocab: vocabulary("▁", "te"), merges: [["t", "e"]], byte_fallback: true },
  },
  {
    ...COMMON,
    normalizer: { type: "Lowercase" },
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    model: { type: "Unigram", unk_id: 0, vocab: Object.keys(vocabulary("▁", "text")).map((token, id) => [token, -id]) },
  },
  {
    ...COMMON,
    normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: null },
    pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "BertPreTokenizer" }, { type: "Digits" }] },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: "<unk>",
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: vocabulary("##e", "##x", "##t", "##f", "##o"),
    },
  },
];
