// Whose texts the page shows, unless told otherwise: everybody's only where no stranger can look.
import { expect, test } from "bun:test";
import { parseOptions } from "../src/options.ts";

const NOBODY = "own";

test.each([
  [[], {}, "all"],
  [["--host", "127.0.0.2"], {}, "all"],
  [["--host", "::1"], {}, "all"],
  [["--host", "localhost"], {}, "all"],
  [["--host", "0.0.0.0"], {}, NOBODY],
  [["--host", "::"], {}, NOBODY],
  [["--host", "192.168.1.4"], {}, NOBODY],
  [["--host", "127.0.0.1.example.org"], {}, NOBODY],
  [["--host", "0.0.0.0", "--token", "secret"], {}, "all"],
  [["--host", "0.0.0.0"], { LOCKSTEP_TOKEN: "secret" }, "all"],
  [["--host", "0.0.0.0", "--page-texts", "all"], {}, "all"],
  [["--page-texts", "own"], {}, NOBODY],
] as const)("%p %p: %s", (args, environment, texts) => {
  expect(parseOptions(args, environment).pageTexts).toBe(texts);
});

test("other words are refused, with those that there are", () => {
  expect(() => parseOptions(["--page-texts", "mine"], {})).toThrow(
    "--page-texts must be one of all, own, but is mine.",
  );
});
