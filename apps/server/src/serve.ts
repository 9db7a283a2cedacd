// The command: opens the model, and serves it.
import process from "node:process";
import { joinJob } from "@lockstep/dist-groups";
import { Engine, openModel } from "@lockstep/language-model";
import { lineWriter } from "./http/line-writer.ts";
import { jsonLines } from "./http/request-log.ts";
import type { Listen } from "./listen/listener.ts";
import { explainFailure } from "./command-errors.ts";
import { livePage } from "./live-page.ts";
import { HELP, parseOptions } from "./options.ts";
import type { Resize } from "./routes/resize.ts";
import { runServer } from "./run-server.ts";
import { ModelTokenizer } from "./tokenize/model-tokenizer.ts";

/** Runs the command with a runtime's way to listen. Resolves with the exit code. */
export async function serve(listen: Listen): Promise<number> {
  try {
    await joinJob();
    return await run(listen, process.argv.slice(2));
  } catch (error) {
    const { line, code } = explainFailure("serve", error);
    process.stderr.write(`${line}\n`);
    return code;
  }
}

async function run(listen: Listen, args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const log = jsonLines(lineWriter(process.stdout));
  const model = openModel(options.modelFolder);
  for (const warning of model.warnings) log({ level: "warn", event: "model", warning });
  const { modelName, engine: wanted } = options;
  log({ level: "info", event: "opening", model: modelName, folder: model.folder });
  using tokenizer = new ModelTokenizer(model);
  await using engine = await Engine.open(model, wanted);
  const { ranks, maxContext, hasChat } = engine;
  log({ level: "info", event: "opened", ranks, max_context: maxContext, chat: hasChat });
  const { host, port, token, limits, drainSeconds, idleSeconds, pageTexts } = options;
  const page = options.page ? { page: livePage({ texts: pageTexts }) } : {};
  const resize: Resize = (changes, how) => engine.resize(changes, how);
  const admin = options.resize ? { resize } : {};
  const serving = { modelName, token, limits, host, port, drainSeconds, idleSeconds, ...page, ...admin };
  return await runServer({ engine, tokenizer, log, listen, ...serving });
}
