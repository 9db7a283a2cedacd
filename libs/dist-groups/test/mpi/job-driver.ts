// The program of every process of a job that tests drive: the first opens and closes worlds and calls their methods as a
// test asks it to, over a socket; the others run ranks.

import { type Socket, connect } from "node:net";
import process from "node:process";
import { toPlainError } from "../../src/errors/plain-error.ts";
import { joinJob, openWorld, type World, type WorldOptions } from "../../src/index.ts";
import { FrameReader, writeFrame } from "./frames.ts";
import { type DriverCommand, type DriverEvent, DRIVER_SOCKET } from "./driver-protocol.ts";

const CALL_DEADLINE_MS = 600_000;

await joinJob();

const socket: Socket = connect(process.env[DRIVER_SOCKET] ?? "");
let world: World | undefined;

function tell(event: DriverEvent): void {
  writeFrame(socket, event);
}

async function serve(command: DriverCommand): Promise<void> {
  if (command.kind === "open") {
    world = await openWorld(command.options as WorldOptions);
  } else if (command.kind === "call") {
    await Promise.all(
      Array.from({ length: world?.size ?? 0 }, async (_, rank) => {
        try {
          const value = await world?.callRank(rank, command.method, [...command.args], {
            deadlineMs: CALL_DEADLINE_MS,
          });
          tell({ kind: "answer", id: command.id, rank, outcome: { value } });
        } catch (error) {
          tell({ kind: "answer", id: command.id, rank, outcome: { error: toPlainError(error) } });
        }
      }),
    );
  } else if (command.kind === "kill") await world?.terminateRank(command.rank);
  else if (command.kind === "flight") tell({ kind: "flight", id: command.id, record: world?.flightRecord() });
  else if (command.kind === "renew") await world?.renewGroups();
  else {
    await world?.close();
    world = undefined;
  }
}

const reader = new FrameReader<DriverCommand>((command) => {
  serve(command).then(
    () => tell({ kind: "done", id: command.id }),
    (error: unknown) => tell({ kind: "done", id: command.id, error: toPlainError(error) }),
  );
});
socket.on("data", (bytes) => reader.take(bytes));
// The test has gone, or is through.
socket.on("close", () => process.exit(0));
