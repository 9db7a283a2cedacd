// An MPI job over the hosts of a network, from its start to the end of its last process.
import type { MpiImplementation } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";
import { type HostProcess, killProcesses } from "./host-processes.ts";
import { launchCommand } from "./launch-command.ts";
import { CONTROL_INTERFACE, MPI_INTERFACE, type Network } from "./network.ts";
import { NetworkError } from "./network-error.ts";

export interface JobOptions {
  readonly implementation: MpiImplementation;
  /** What every rank runs: a program, by its whole path or in PATH, and its arguments. */
  readonly command: readonly string[];
  /** The job is killed when it has not ended after this many milliseconds. */
  readonly deadlineMs: number;
  /** Ranks on every host; 1 where it is left out. */
  readonly processesPerHost?: number;
  /** What every rank's environment has besides. */
  readonly environment?: Readonly<Record<string, string>>;
  /** More arguments for the launcher. */
  readonly launcherArguments?: readonly string[];
}

export interface JobResult {
  /** The launcher's; `null` when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** Whether the deadline, `kill` or the disposal ended the job. */
  readonly killed: boolean;
  /** What still ran on the hosts ten seconds after the launcher had ended by itself. It has been killed. */
  readonly left: readonly HostProcess[];
}

export interface Job extends AsyncDisposable {
  /** Resolves, always, once no process of the job is left. */
  readonly ended: Promise<JobResult>;
  /** Resolves once the job has printed `text` to standard output. @throws NetworkError when it ended without */
  printed(text: string): Promise<void>;
  /** What the job has printed to standard output so far. */
  stdout(): string;
  /** Sends a signal to the launcher. */
  signal(name: NodeJS.Signals): void;
  /** Kills the job: the launcher, and all that runs on the hosts. */
  kill(): Promise<JobResult>;
}

const GRACE_MS = 10_000;

/**
 * Starts an MPI job from the network's first host: ranks go to the hosts in order, block by block. A network runs one
 * job at a time: the end of a job is the end of all that runs on the hosts.
 */
export function startJob(network: Network, options: JobOptions): Job {
  const {
    implementation,
    command,
    deadlineMs,
    processesPerHost = 1,
    environment = {},
    launcherArguments = [],
  } = options;
  const [first] = network.hosts;
  if (first === undefined) throw new RangeError("a network of one host or more was expected");
  const launcher = launchCommand(implementation, {
    hosts: network.hosts.map(({ name }) => name),
    processesPerHost,
    command,
    environment,
    launcherArguments,
    hostShell: network.hostShell,
    mpiInterface: MPI_INTERFACE,
    controlInterface: CONTROL_INTERFACE,
  });
  const child = Bun.spawn([network.hostShell, first.name, `exec ${launcher.map(quoted).join(" ")}`], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const links = network.hosts.map(({ namespaceLink }) => namespaceLink);
  let killed = false;
  let isOver = false;
  // What runs on the hosts after this job's end is another one's: no killing may go on until then.
  const killings: Promise<void>[] = [];
  const kill = (): void => {
    if (child.exitCode === null && child.signalCode === null) killed = true;
    // It may not have reached its host yet.
    child.kill("SIGKILL");
    killings.push(killProcesses(links));
  };

  const output = new Output();
  const end = async (): Promise<JobResult> => {
    const stdout = output.read(child.stdout);
    const stderr = new Response(child.stderr).text();
    const timer = setTimeout(kill, deadlineMs);
    await child.exited;
    clearTimeout(timer);
    const left = killed ? [] : await whatStays(network);
    killings.push(killProcesses(links));
    await Promise.all(killings);
    isOver = true;
    return { exitCode: child.exitCode, stdout: await stdout, stderr: await stderr, killed, left };
  };
  const ended = end();
  return {
    ended,
    async printed(text) {
      if (await output.has(text)) return;
      const { exitCode, stdout, stderr } = await ended;
      throw new NetworkError(`the job ended (${exitCode}) and did not print "${text}":\n${stdout}${stderr}`);
    },
    stdout: () => output.text,
    signal: (name) => child.kill(name),
    async kill() {
      if (!isOver) kill();
      return await ended;
    },
    async [Symbol.asyncDispose]() {
      if (!isOver) kill();
      await ended;
    },
  };
}

/** What runs on the hosts after the launcher's end, other than for a moment. */
async function whatStays(network: Network): Promise<readonly HostProcess[]> {
  const deadline = performance.now() + GRACE_MS;
  for (;;) {
    const left = network.processes();
    if (left.length === 0 || performance.now() > deadline) return left;
    await Bun.sleep(10);
  }
}

/** Quotes a word for the shell. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** What a job has printed, as it comes. */
class Output {
  #text = "";
  #isComplete = false;
  #change = Promise.withResolvers<void>();

  async read(stream: ReadableStream<Uint8Array>): Promise<string> {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      this.#text += decoder.decode(bytes, { stream: true });
      this.#tell();
    }
    this.#isComplete = true;
    this.#tell();
    return this.#text;
  }

  get text(): string {
    return this.#text;
  }

  /** Resolves to whether the job prints `text` before it ends. */
  async has(text: string): Promise<boolean> {
    while (!this.#text.includes(text)) {
      if (this.#isComplete) return false;
      await this.#change.promise;
    }
    return true;
  }

  #tell(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}
