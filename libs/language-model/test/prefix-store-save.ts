// A process that computes a text and saves what is known of it: JSON of [model folder, settings, place, ids] comes as
// its argument, what compute found leaves on stdout.
import { openStoreWorld } from "./prefix-store-world.ts";

const [model, settings, place, ids] = JSON.parse(process.argv[2] ?? "[]");
await using world = await openStoreWorld(model, settings);
const computed = await world.call("compute", [ids]);
await world.call("save", [place, "saved by another process"]);
process.stdout.write(JSON.stringify(computed));
