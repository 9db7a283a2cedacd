import { existsSync } from "node:fs";

const input = ["page.html", "text-page.html"].filter((page) => existsSync(page));

export default { build: { target: "esnext", rollupOptions: { input } }, worker: { format: "es" } };
