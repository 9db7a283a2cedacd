/** Imports that break a rule and are to go. `from` and `to` are a file, or a folder that ends with a slash. */
export interface Exception {
  readonly from: string;
  readonly to: string;
}

/**
 * Imports that break the rules today: the list only shrinks. One that is gone must be taken off it, or the check fails.
 * Circles through one of them are forgiven as well.
 */
export const EXCEPTIONS: readonly Exception[] = [
  // Benches that time what is inside a package.
  { from: "bench/gpu/", to: "libs/kernels/src/" },
  { from: "bench/gpu-steps/", to: "libs/kernels/src/" },
  { from: "bench/flight-recorder.ts", to: "libs/dist-groups/src/" },
  { from: "bench/cpu/linear-rows.ts", to: "libs/language-model/src/layers/layers.ts" },
  { from: "bench/step-profile/", to: "libs/language-model/src/generation/" },
  { from: "bench/memories.ts", to: "libs/language-model/src/layers/layers.wasm.ts" },
  // A bench whose ranks are also asked what lives in them.
  { from: "bench/serve/live-memory/", to: "libs/dist-groups/src/rank/rank.ts" },
  // Set-up, which runs before the packages are linked.
  { from: "scripts/command-line.ts", to: "libs/tensor/src/describe-options-error.ts" },
  { from: "scripts/software-vulkan.ts", to: "libs/kernels/src/device/swiftshader.ts" },
];
