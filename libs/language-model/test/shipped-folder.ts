import { fileURLToPath } from "node:url";

/** The folder of the model that comes with the demo. */
export const MODEL_FOLDER = fileURLToPath(new URL("../../../apps/demo/model", import.meta.url));
