// The worker of a rank that can also be asked what lives in it.
import "../../../libs/dist-groups/src/rank/rank.ts";
import { CHANNEL, liveHeap, type ThreadAnswer } from "./collect.ts";

const channel = new BroadcastChannel(CHANNEL);
channel.onmessage = async ({ data }: MessageEvent): Promise<void> => {
  if (typeof data !== "number") return;
  const answer: ThreadAnswer = { asked: data, bytes: await liveHeap() };
  channel.postMessage(answer);
};
