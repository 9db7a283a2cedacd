// The texts of requests that are alone, to a server that shares no prefixes: what all others must be equal to.
import type { Answered, Ask } from "./load.ts";
import { load } from "./load.ts";
import { type ServeOptions, serve } from "./served.ts";

/** What came of each request alone, read to its end. */
export async function textsAlone(options: ServeOptions, asks: readonly Ask[]): Promise<Answered[]> {
  await using server = await serve({ ...options, args: [...options.args, "--no-prefix-cache"] });
  return await load(
    server.url,
    asks.map((ask) => ({ ...ask, leaveAfter: undefined })),
    1,
  );
}

/** How many texts are wrong: those that ended well but are others than alone, or were left and are no beginnings. */
export function countWrong(answers: readonly Answered[], alone: readonly Answered[]): number {
  return answers.filter((answer, index) => {
    const right = alone[index];
    if (right?.error !== undefined || right === undefined) return true;
    if (answer.error !== undefined) return false;
    return answer.hasLeft ? !right.text.startsWith(answer.text) : answer.text !== right.text;
  }).length;
}
