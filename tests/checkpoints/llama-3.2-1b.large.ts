// A checkpoint of random weights in the shape of Llama 3.2 1B, with room for 32,768 tokens of keys and values in f16.
import { setDefaultTimeout } from "bun:test";
import { checkCheckpoint } from "./check-checkpoint.ts";

setDefaultTimeout(1_800_000);

checkCheckpoint("llama-3.2-1b", 32_768);
