/** A package that is published. */
export interface PublishedPackage {
  readonly name: string;
  readonly folder: string;
  /** Names of the packages that it depends on, and those in turn. */
  readonly below: readonly string[];
  /** What of `src` is there for tests alone. */
  readonly testCode: readonly string[];
}

const TESTS = ["**/*.test.ts", "**/*.large.ts", "**/*.worker.ts"];
const ENGINE = ["tensor", "kernels", "dist-groups"];

/** Every package that is published, each after those that it depends on. */
export const PUBLISHED: readonly PublishedPackage[] = [
  { name: "tensor", folder: "libs/tensor", below: [], testCode: TESTS },
  {
    name: "kernels",
    folder: "libs/kernels",
    below: ["tensor"],
    testCode: [...TESTS, "testing", "ops/*/cases.ts"],
  },
  { name: "dist-groups", folder: "libs/dist-groups", below: ["tensor"], testCode: TESTS },
  { name: "attention", folder: "libs/attention", below: ENGINE, testCode: TESTS },
  { name: "shared-gpu", folder: "libs/shared-gpu", below: ENGINE, testCode: TESTS },
  {
    name: "language-model",
    folder: "libs/language-model",
    below: [...ENGINE, "attention", "shared-gpu"],
    testCode: TESTS,
  },
  { name: "goldens", folder: "apps/goldens", below: [...ENGINE, "attention"], testCode: TESTS },
];
