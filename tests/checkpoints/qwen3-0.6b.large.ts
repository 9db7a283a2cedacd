// A checkpoint of random weights in the shape of Qwen3 0.6B, with room for 32,768 tokens of keys and values in f16.
import { setDefaultTimeout } from "bun:test";
import { checkCheckpoint } from "./check-checkpoint.ts";

setDefaultTimeout(1_800_000);

checkCheckpoint("qwen3-0.6b", 32_768);
