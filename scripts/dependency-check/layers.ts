// Which way imports point. Packages import packages below them; within a package, folders import folders below them.

/** Packages, each with those that it may import. Tests, examples, `tests`, `bench` and `scripts` may import all. */
export const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  "libs/tensor": [],
  "libs/kernels": ["libs/tensor"],
  "libs/dist-groups": ["libs/tensor"],
  "libs/attention": ["libs/tensor", "libs/kernels", "libs/dist-groups"],
  "libs/shared-gpu": ["libs/tensor", "libs/kernels", "libs/dist-groups"],
  "libs/language-model": ["libs/tensor", "libs/kernels", "libs/dist-groups", "libs/attention", "libs/shared-gpu"],
  "apps/goldens": ["libs/tensor", "libs/kernels", "libs/dist-groups", "libs/attention"],
  "apps/demo": ["libs/tensor", "libs/kernels", "libs/dist-groups", "libs/language-model"],
  "apps/server": ["libs/tensor", "libs/dist-groups", "libs/language-model"],
};

/** Folders of a package's `src`, from the lowest to the highest. Files beside them are held to circles alone. */
export const FOLDERS: Readonly<Record<string, readonly string[]>> = {
  "libs/kernels": ["kv", "device", "webgpu", "wasm", "reference", "ops", "backends"],
  "libs/dist-groups": [
    "wire",
    "errors",
    "layout",
    "reduction",
    "flight-record",
    "transport",
    "collectives",
    "group",
    "rank",
    "site",
    "job",
    "world",
  ],
  "libs/attention": ["arguments", "kv", "combine", "options", "redistribute", "decode", "prefill"],
  "libs/language-model": ["layers", "model", "sampling", "generation", "engine"],
  "apps/goldens": ["corpus"],
  "apps/server": ["tokenize", "http", "openai", "routes", "live", "page", "listen"],
};

/** The only code of libraries that imports Effect. None imports it: programs choose it, as an export. */
export const EFFECT_FACE = "libs/dist-groups/src/world/effect.ts";

/** Code of tests and examples, which no other code imports. */
export const TEST_CODE = "\\.(test|large|worker)\\.ts$|/(test|testing|examples)/|/ops/[^/]+/cases\\.ts$";
