// `bun run demo`: generates text with a model whose KV cache is sharded over ranks.
import process from "node:process";
import { joinJob } from "@lockstep/dist-groups";
import { openModel } from "@lockstep/language-model";
import { explainFailure } from "./command-errors.ts";
import { runExpectations } from "./expect.ts";
import { readExpectations } from "./expectations.ts";
import { HELP } from "./help.ts";
import { parseOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { generatorOptions, tell } from "./tell.ts";

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const progress = new Progress();
  const model = openModel(options.modelFolder);
  for (const warning of model.warnings) process.stderr.write(`demo: ${warning}\n`);
  if (options.expectFile !== undefined) {
    const expectations = readExpectations(options.expectFile, model.config.vocabularySize);
    return (await runExpectations(model, generatorOptions(options), expectations, progress)) ? 0 : 1;
  }
  return tell(model, options, progress);
}

// Whoever reads the output may stop early, as `head` does.
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));

try {
  await joinJob();
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const { line, code } = explainFailure("demo", error);
  process.stderr.write(`${line}\n`);
  process.exitCode = code;
}
