// What is begun while peers show their tensors is awaited, whatever comes of the exchange.
import { expect, test } from "bun:test";
import type { ProcessGroup } from "@lockstep/dist-groups";
import { outcomeOf } from "../../../../tests/outcome-of.ts";
import { useOfPeers } from "./use-of-peers.ts";

/** A group whose peers show nothing, and whose exchange fails, or not, once it was read. */
function groupThat(fails: boolean): Pick<ProcessGroup, "readPeers"> {
  return {
    readPeers: (_own, read) => {
      const value = read([[], []]);
      if (fails) throw new Error("a peer did not come out of the exchange");
      return value;
    },
  };
}

/** Ops that end later, the second of them badly. */
function opsThat(fail: boolean): { begin: () => Promise<void>[]; ended: string[] } {
  const ended: string[] = [];
  const op = async (name: string, error: string | undefined): Promise<void> => {
    await Bun.sleep(5);
    ended.push(name);
    if (error !== undefined) throw new Error(error);
  };
  const begin = (): Promise<void>[] => [op("first", undefined), op("second", fail ? "an op failed" : undefined)];
  return { begin, ended };
}

test.each([
  [false, false, undefined],
  [false, true, "an op failed"],
  [true, false, "a peer did not come out of the exchange"],
  [true, true, "a peer did not come out of the exchange"],
] as const)("exchange fails: %p, an op fails: %p", async (exchangeFails, opFails, message) => {
  const { begin, ended } = opsThat(opFails);
  const outcome = await outcomeOf(useOfPeers(groupThat(exchangeFails), [], begin, {}));
  if (message === undefined) expect(outcome()).toBeUndefined();
  else expect(outcome).toThrow(message);
  expect(ended).toEqual(["first", "second"]);
});

test("what `use` throws is thrown", async () => {
  const use = (): never => {
    throw new Error("nothing begun");
  };
  expect(await outcomeOf(useOfPeers(groupThat(false), [], use, {}))).toThrow("nothing begun");
});
