// Serves the page, built by Bun's bundler, with the two headers that let a page share memory with its workers.
const here = import.meta.dir;
const built = await Bun.build({
  entrypoints: [`${here}/page.ts`, `${here}/worker.ts`],
  target: "browser",
});
const scripts = new Map(built.outputs.map((output) => [output.path.replace(/^\.?\//, "/"), output]));

const ISOLATED = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
};

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT ?? 0),
  fetch(request) {
    const { pathname } = new URL(request.url);
    const body = pathname === "/" ? Bun.file(`${here}/index.html`) : scripts.get(pathname);
    return new Response(body ?? "not found\n", { status: body === undefined ? 404 : 200, headers: ISOLATED });
  },
});
console.log(`open ${server.url}`);
process.once("SIGTERM", () => server.stop(true));
