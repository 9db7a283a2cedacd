import { expect, setDefaultTimeout, test } from "bun:test";
import { checkModel } from "./check-model.ts";

setDefaultTimeout(120_000);

/** Half a minute on two idle cores. */
const TIMEOUT_MS = 300_000;

test(
  "the sequence-word protocol holds in its model, and every mutation of it is caught",
  async () => {
    expect(await checkModel()).toBe(0);
  },
  TIMEOUT_MS,
);
