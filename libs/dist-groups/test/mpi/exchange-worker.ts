import { parentPort, workerData } from "node:worker_threads";
import { exchange } from "./exchange.ts";

parentPort?.postMessage(exchange(workerData));
