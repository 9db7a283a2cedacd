// The command lines of benches and other programs of this repository.
import process from "node:process";
import { type ParseArgsOptionDescriptor, parseArgs } from "node:util";
// Not by the package's name: set-up reads its command line before packages are linked.
import { describeOptionsError } from "../libs/tensor/src/describe-options-error.ts";

/** An option, and what `--help` tells of it. */
export interface CommandOption extends ParseArgsOptionDescriptor {
  /** What it is for, in a line or less. */
  readonly help: string;
  /** What it takes, as in N or FILE. Left out: nothing. */
  readonly takes?: string;
}

type CommandOptions = Readonly<Record<string, CommandOption>>;

/** What a program is, and what it takes. */
export interface Command<Options extends CommandOptions> {
  /** What it is started by: a script of package.json, as bench:serve, or a file. */
  readonly name: string;
  /** What it does, in a sentence. */
  readonly does: string;
  readonly options: Options;
  /** What it takes beside options, as in SHAPE FOLDER. Left out: nothing. */
  readonly operands?: string;
}

type Parsed<Options extends CommandOptions> = ReturnType<
  typeof parseArgs<{ options: Options; allowPositionals: true }>
>;

/**
 * Reads a command line. `--help` prints what there is and ends the process with exit code 0; an option that there is
 * not, or that lacks its value, ends it with exit code 2 and a line that says so.
 */
export function readCommandLine<const Options extends CommandOptions>(
  command: Command<Options>,
  args: readonly string[] = process.argv.slice(2),
): Parsed<Options> {
  if (args.includes("--help")) {
    process.stdout.write(helpOf(command));
    process.exit(0);
  }
  try {
    const parsed = parseArgs({ args: [...args], options: command.options, allowPositionals: true });
    const [first] = parsed.positionals;
    if (first !== undefined && command.operands === undefined) throw new Error(`'${first}' is no option`);
    return parsed;
  } catch (error) {
    return refuseCommand(command.name, describeOptionsError(error, command.options));
  }
}

/** Ends the process with exit code 2 and a line. */
export function refuseCommand(name: string, message: string): never {
  process.stderr.write(`${name}: ${message.split(". ")[0]?.replaceAll("\n", " ")}; --help tells what there is\n`);
  process.exit(2);
}

/** The value of an option as a whole number of at least `least`; anything else is refused. */
export function wholeNumber(name: string, option: string, text: string, least: number): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= least && text.trim() !== "") return value;
  return refuseCommand(name, `--${option} must be a whole number from ${least}, but is ${text}`);
}

/** The value of an option as whole numbers, separated by commas. */
export function wholeNumbers(name: string, option: string, text: string, least: number): number[] {
  return text.split(",").map((one) => wholeNumber(name, option, one, least));
}

function helpOf<Options extends CommandOptions>({ name, does, options, operands }: Command<Options>): string {
  const all = Object.entries(options).map(([option, { takes, help, default: usual }]): [string, string] => {
    const left = takes === undefined ? `--${option}` : `--${option} ${takes}`;
    const isTold = typeof usual === "string" && usual !== "";
    return [left, isTold ? `${help} (default ${usual})` : help];
  });
  const width = Math.max(0, ...all.map(([left]) => left.length)) + 2;
  const lines = all.map(([left, help]) => `  ${left.padEnd(width)}${help}\n`);
  const usage = [
    name.includes("/") ? `bun ${name}` : `bun run ${name}`,
    ...(all.length > 0 ? ["[options]"] : []),
    ...(operands === undefined ? [] : [operands]),
  ];
  return [`${does}\n\nusage: ${usage.join(" ")}\n`, ...(lines.length > 0 ? ["\n"] : []), ...lines].join("");
}
