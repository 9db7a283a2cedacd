import { expect, test } from "bun:test";
import { openModel } from "@lockstep/language-model";
import { DEMO_MODEL } from "../peer/prompts.ts";
import { Differing } from "./differing.ts";
import { makeRequests, textsOf } from "./requests.ts";
import { SideProcess } from "./side-process.ts";
import { outcomeOf } from "../../tests/outcome-of.ts";

const job = { model: DEMO_MODEL, parallel: 1, context: 256, texts: 3, kvDtype: "f32" } as const;

test("Lockstep's side makes the same texts as a library and as a server, and ends when it is let go", async () => {
  const requests = makeRequests(textsOf(DEMO_MODEL, openModel(DEMO_MODEL).config), 4, 5, 1);
  await using side = await SideProcess.open("./lockstep-side.ts", job);
  expect(side.about).toBe("1 rank");
  const library = await side.run("library", { requests, clients: 3 });
  const http = await side.run("http", { requests, clients: 3 });
  expect(library.answers.map(({ tokens }) => tokens.length)).toEqual([5, 5, 5, 5]);
  expect(http.answers.map(({ tokens }) => tokens)).toEqual([[], [], [], []]);
  const differing = new Differing();
  differing.add(library.answers, http.answers);
  expect(`${differing}`).toBe("0 of 4 texts differ");
}, 120_000);

test("a side that cannot open its model is told of", async () => {
  const opening = SideProcess.open("./lockstep-side.ts", { ...job, model: "/nowhere" });
  expect(await outcomeOf(opening)).toThrow("./lockstep-side.ts ended when it was to open its model");
}, 120_000);
