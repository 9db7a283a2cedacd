// The command lines that start MPI jobs over hosts, with the flags that send every byte between ranks over one link.
import { type MpiImplementation, requireProgram } from "../../libs/dist-groups/test/mpi/mpi-launcher.ts";

/** What a launcher is to start. */
export interface Launch {
  readonly hosts: readonly string[];
  readonly processesPerHost: number;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Arguments besides. */
  readonly launcherArguments: readonly string[];
  /** The script that runs a command on a host. */
  readonly hostShell: string;
  /** Interfaces, of the same names on every host: for MPI's bytes, and for the launcher. */
  readonly mpiInterface: string;
  readonly controlInterface: string;
}

/** Launchers' arguments with which the death of one rank does not end the others. */
export const LET_OTHERS_LIVE: Readonly<Record<MpiImplementation, readonly string[]>> = {
  openmpi: ["--enable-recovery"],
  mpich: ["-disable-auto-cleanup"],
};

/**
 * The command line that starts an MPI job, for the first host to run. Ranks go to the hosts in order, block by block.
 * @throws Error when the launcher is not installed, saying how to install it
 */
export function launchCommand(implementation: MpiImplementation, launch: Launch): readonly string[] {
  const flags = { openmpi: openMpiFlags, mpich: mpichFlags }[implementation](launch);
  return [requireProgram(`mpirun.${implementation}`), ...flags, ...launch.launcherArguments, ...launch.command];
}

function openMpiFlags(launch: Launch): readonly string[] {
  const { hosts, processesPerHost, environment, hostShell, mpiInterface, controlInterface } = launch;
  const settings: Readonly<Record<string, string>> = {
    plm: "rsh",
    plm_rsh_agent: hostShell,
    oob_tcp_if_include: controlInterface,
    // Messages by TCP alone: no UCX, and between ranks of one host no shared memory either.
    pml: "ob1",
    btl: "tcp,self",
    btl_tcp_if_include: mpiInterface,
  };
  return [
    "--allow-run-as-root",
    // Ranks give way to each other: hosts do not know that they share their cores.
    "--oversubscribe",
    // Each host would bind its first rank to the same core.
    ...["--bind-to", "none"],
    ...["--host", hosts.map((host) => `${host}:${processesPerHost}`).join(",")],
    ...["-np", String(hosts.length * processesPerHost)],
    ...Object.entries(settings).flatMap(([name, value]) => ["--mca", name, value]),
    ...Object.entries(environment).flatMap(([name, value]) => ["-x", `${name}=${value}`]),
  ];
}

function mpichFlags(launch: Launch): readonly string[] {
  const { hosts, processesPerHost, environment, hostShell, mpiInterface, controlInterface } = launch;
  // Debian's MPICH sends by UCX. TCP alone, and between ranks of one host no shared memory either.
  const settings = { UCX_TLS: "tcp,self", UCX_NET_DEVICES: mpiInterface, MPIR_CVAR_NOLOCAL: "1", ...environment };
  return [
    ...["-launcher", "ssh", "-launcher-exec", hostShell],
    ...["-iface", controlInterface],
    ...["-bind-to", "none"],
    ...["-hosts", hosts.map((host) => `${host}:${processesPerHost}`).join(",")],
    ...["-n", String(hosts.length * processesPerHost)],
    ...Object.entries(settings).flatMap(([name, value]) => ["-genv", name, value]),
  ];
}
