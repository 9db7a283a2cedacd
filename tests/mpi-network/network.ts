// Hosts on this machine, joined by networks that MPI's bytes have to cross.
//
// A host is a network namespace with two links to a switch, which is a namespace too: `mpi0` for MPI's bytes, which are
// counted, delayed and cut, and `control0` for the launcher, as clusters have it. Nothing leaves the machine.
//
//   await using network = await openNetwork({ hosts: 2, delayMs: 5 });
//   await using job = startJob(network, { implementation: "openmpi", command: ["program"], deadlineMs: 10_000 });
//   network.cut();
//   network.restore();
//   const { exitCode, stdout } = await job.ended;
import { mkdirSync, rmSync } from "node:fs";
import { type HostProcess, processesIn } from "./host-processes.ts";
import { writeHostShell } from "./host-shell.ts";
import { folderOf, freshName, ip, namespaceLink, removeNamespaces, removeStaleNetworks } from "./namespaces.ts";
import { NetworkError } from "./network-error.ts";
import { type Relay, startRelay } from "./relay.ts";

export interface NetworkOptions {
  /** How many hosts: 1 to 16. */
  readonly hosts: number;
  /**
   * How long frames between hosts take, one way, in milliseconds. Without it a bridge of the kernel joins the hosts;
   * with it, be it 0, a relay does, whose delay `setDelay` changes.
   */
  readonly delayMs?: number;
}

export interface Host {
  /** `host0`, `host1`, ...: what `hostname` prints there. */
  readonly name: string;
  readonly namespace: string;
  /** What its processes have as `/proc/self/ns/net`. */
  readonly namespaceLink: string;
  readonly mpiAddress: string;
  readonly controlAddress: string;
}

/** Which links to cut or to restore. */
export interface Links {
  /** The number of the host; all hosts where it is left out. */
  readonly host?: number;
  /** `mpi` (what is meant where it is left out): the launcher still reaches the host. `all`: nothing does. */
  readonly links?: "mpi" | "all";
}

export interface Network extends AsyncDisposable {
  readonly hosts: readonly Host[];
  /** The script that runs a command on a host: `host-shell HOST COMMAND`. */
  readonly hostShell: string;
  /** Delays frames that hosts send from now on. @throws NetworkError on a network without a relay */
  setDelay(milliseconds: number): Promise<void>;
  /** Cuts links, as one pulls a cable: what is on its way is lost. */
  cut(which?: Links): void;
  /** Joins what was cut. TCP takes the lost bytes up again, by itself, up to about as long after as the cut lasted. */
  restore(which?: Links): void;
  /** Bytes over a host's link for MPI since the network was opened, with all headers. */
  traffic(host: number): { readonly sentBytes: number; readonly receivedBytes: number };
  /** What runs now on a host, or on all where none is named. */
  processes(host?: number): HostProcess[];
}

/** The interface for MPI's bytes on every host. */
export const MPI_INTERFACE = "mpi0";
/** The launcher's interface on every host. */
export const CONTROL_INTERFACE = "control0";

/**
 * Makes hosts and joins them. Disposing of the network kills what runs there and removes it. What an owner that died
 * has left is removed first. @throws RangeError for options out of range; NetworkError without Linux, root and iproute2
 */
export async function openNetwork({ hosts: count, delayMs }: NetworkOptions): Promise<Network> {
  if (!Number.isInteger(count) || count < 1 || count > 16) {
    throw new RangeError(`1 to 16 hosts were expected, ${count} came`);
  }
  await removeStaleNetworks();
  const name = freshName();
  const folder = folderOf(name);
  const switchNamespace = `${name}-switch`;
  const numbers = Array.from({ length: count }, (_, i) => i);
  const namespaces = numbers.map((i) => `${name}-host${i}`);
  const dispose = async (): Promise<void> => {
    await removeNamespaces([...namespaces, switchNamespace]);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    for (const namespace of [...namespaces, switchNamespace]) ip(["netns", "add", namespace]);
    const hosts = namespaces.map((namespace, i) => ({
      name: `host${i}`,
      namespace,
      namespaceLink: namespaceLink(namespace),
      mpiAddress: `10.202.0.${i + 1}`,
      controlAddress: `10.201.0.${i + 1}`,
    }));
    for (const host of hosts) joinToSwitch(host, switchNamespace);
    joinPorts(switchNamespace, "control", numbers.map(controlPort));
    let relay: Relay | undefined;
    if (delayMs === undefined) joinPorts(switchNamespace, "mpi", numbers.map(mpiPort));
    else relay = await startRelay(switchNamespace, numbers.map(mpiPort), delayMs);
    for (const host of hosts) await waitForCarrier(host);
    mkdirSync(folder, { mode: 0o700 });
    return network(hosts, switchNamespace, relay, writeHostShell(folder, hosts), dispose);
  } catch (error) {
    await dispose();
    throw error;
  }
}

const mpiPort = (host: number): string => `mpi-${host}`;
const controlPort = (host: number): string => `control-${host}`;

/** Gives a host its two links, whose far ends are ports in the switch's namespace. */
function joinToSwitch({ name, namespace, mpiAddress, controlAddress }: Host, switchNamespace: string): void {
  const number = Number(name.slice("host".length));
  const links = [
    [MPI_INTERFACE, mpiPort(number), mpiAddress],
    [CONTROL_INTERFACE, controlPort(number), controlAddress],
  ] as const;
  ip(
    ["-batch", "-"],
    links.map(
      ([near, far]) => `link add ${near} netns ${namespace} type veth peer name ${far} netns ${switchNamespace}`,
    ),
  );
  ip(
    ["-n", switchNamespace, "-batch", "-"],
    links.flatMap(([, far]) => [`link set ${far} addrgenmode none`, `link set ${far} up`]),
  );
  ip(
    ["-n", namespace, "-batch", "-"],
    [
      "link set lo up",
      ...links.flatMap(([near, , address]) => [
        `link set ${near} addrgenmode none`,
        `address add ${address}/24 dev ${near}`,
        `link set ${near} up`,
      ]),
    ],
  );
}

/** Waits until a host's links can be used: the kernel tells of a link's carrier up to a second after it is there. */
async function waitForCarrier({ name, namespace }: Host): Promise<void> {
  const deadline = performance.now() + 30_000;
  for (;;) {
    const links: { ifname: string; operstate: string }[] = JSON.parse(ip(["-n", namespace, "-j", "link", "show"]));
    if (links.every(({ ifname, operstate }) => ifname === "lo" || operstate === "UP")) return;
    if (performance.now() > deadline) {
      throw new NetworkError(`links of ${name} are not up after 30 s: ${JSON.stringify(links)}`);
    }
    await Bun.sleep(10);
  }
}

/** Joins ports by a bridge of the kernel. */
function joinPorts(switchNamespace: string, bridge: string, ports: readonly string[]): void {
  ip(
    ["-n", switchNamespace, "-batch", "-"],
    [
      `link add ${bridge} type bridge`,
      `link set ${bridge} addrgenmode none`,
      ...ports.map((port) => `link set ${port} master ${bridge}`),
      `link set ${bridge} up`,
    ],
  );
}

function network(
  hosts: readonly Host[],
  switchNamespace: string,
  relay: Relay | undefined,
  hostShell: string,
  dispose: () => Promise<void>,
): Network {
  const hostOf = (number: number): Host => {
    const host = hosts[number];
    if (host === undefined) throw new RangeError(`a host of 0 to ${hosts.length - 1} was expected, ${number} came`);
    return host;
  };
  const setLinks = ({ host, links = "mpi" }: Links, state: "up" | "down"): void => {
    if (host !== undefined) hostOf(host);
    const numbers = host === undefined ? hosts.map((_, i) => i) : [host];
    const ports = numbers.flatMap((i) => (links === "mpi" ? [mpiPort(i)] : [mpiPort(i), controlPort(i)]));
    ip(
      ["-n", switchNamespace, "-batch", "-"],
      ports.map((port) => `link set ${port} ${state}`),
    );
  };
  return {
    hosts,
    hostShell,
    async setDelay(milliseconds) {
      if (relay !== undefined) return await relay.setDelay(milliseconds);
      throw new NetworkError("a bridge has no delay: open the network with delayMs, 0 if need be, for a relay");
    },
    cut: (which = {}) => setLinks(which, "down"),
    restore: (which = {}) => setLinks(which, "up"),
    traffic(host) {
      const shown = ip(["-n", hostOf(host).namespace, "-s", "-j", "link", "show", MPI_INTERFACE]);
      const [link]: { stats64: { rx: { bytes: number }; tx: { bytes: number } } }[] = JSON.parse(shown);
      if (link === undefined) throw new NetworkError(`\`ip link show ${MPI_INTERFACE}\` shows none: ${shown}`);
      return { sentBytes: link.stats64.tx.bytes, receivedBytes: link.stats64.rx.bytes };
    },
    processes: (host) => processesIn((host === undefined ? hosts : [hostOf(host)]).map((one) => one.namespaceLink)),
    [Symbol.asyncDispose]: dispose,
  };
}
