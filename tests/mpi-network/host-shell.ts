// The script by which launchers reach hosts: what ssh is on real ones.
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PROGRAM_PATH } from "./namespaces.ts";

/** A host, as the script has to know it. */
export interface ShellHost {
  /** As launchers and `hostname` call it. */
  readonly name: string;
  readonly namespace: string;
  /** Where other hosts' launchers reach it. */
  readonly controlAddress: string;
}

/**
 * Writes a script to `folder`, to be called as ssh is: `host-shell [-OPTION]... HOST COMMAND...`. Returns its path.
 *
 * The host's shell runs COMMAND there, in a fresh environment. A host has a name, a network, System V IPC, /dev/shm,
 * /etc/hosts and a folder for temporary files of its own, so that nothing but the network joins it to others.
 */
export function writeHostShell(folder: string, hosts: readonly ShellHost[]): string {
  const addresses = hosts.map(({ name, controlAddress }) => `${controlAddress} ${name}\n`).join("");
  writeFileSync(join(folder, "hosts"), `127.0.0.1 localhost\n${addresses}`);
  const namespaces = hosts.map(({ name, namespace }) => `  ${name}) namespace=${namespace} ;;\n`).join("");
  for (const { name } of hosts) mkdirSync(join(folder, name));
  const script = join(folder, "host-shell");
  writeFileSync(
    script,
    `#!/bin/sh
while [ "\${1#-}" != "$1" ]; do shift; done
host=$1
shift
case $host in
${namespaces}  *) echo "host-shell: no host $host" >&2; exit 255 ;;
esac
PATH='${PROGRAM_PATH}'
exec env -i PATH="$PATH" LANG=C.UTF-8 HOME=${folder}/$host TMPDIR=${folder}/$host HOST=$host COMMAND="$*" \\
  ip netns exec $namespace unshare --uts --ipc sh -ec '
    hostname "$HOST"
    mount -t tmpfs tmpfs /dev/shm
    mount --bind ${folder}/hosts /etc/hosts
    command=$COMMAND
    unset HOST COMMAND
    cd "$HOME"
    exec sh -c "$command"'
`,
  );
  chmodSync(script, 0o755);
  return script;
}
