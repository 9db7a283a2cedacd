// What recording a collective costs: the recorder alone, over memory of its own.
import { controlBlockLayout } from "../libs/dist-groups/src/transport/shared-memory/control-block.ts";
import { DTYPE_CODES, FOLD_CODES, OP_CODES, signatureOf } from "../libs/dist-groups/src/wire/collective-header.ts";
import { FlightRecorder } from "../libs/dist-groups/src/flight-record/flight-ring.ts";
import { RankStatus } from "../libs/dist-groups/src/transport/shared-memory/rank-status.ts";
import { medianSeconds } from "./timing.ts";

const COLLECTIVES = 10_000;

/** Seconds a collective to record its start, its move of data and its end. */
export async function flightRecorderSeconds(): Promise<number> {
  const layout = controlBlockLayout(2, 1024);
  const memory = new SharedArrayBuffer((layout.totalWords + RankStatus.totalWords(2)) * 4);
  const status = new RankStatus(memory, layout.totalWords * 4, 2, Date.now());
  const words = new Int32Array(memory, 0, layout.totalWords);
  const recorder = new FlightRecorder(words, layout.flightRing(0), status);
  const shape = [64, 128];
  const signature = signatureOf(OP_CODES.allReduce, DTYPE_CODES.f32, FOLD_CODES.sum, 0, shape.length);
  let sequence = 0;
  const seconds = await medianSeconds(() => {
    for (let count = 0; count < COLLECTIVES; count++) {
      recorder.start(sequence++, signature, shape, 48);
      recorder.moving();
      recorder.done();
    }
  });
  return seconds / COLLECTIVES;
}
