// A program, not a page: two entries, whose names stay.
export default {
  // For Vite's dev server, which `bun run build:vite` does not start: memory is shared only in an isolated page, and the
  // rank entry, which the worker alone imports, would be found late and reload the page.
  server: {
    headers: {
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    },
  },
  optimizeDeps: { include: ["@lockstep/dist-groups/rank"] },
  build: {
    // With "esnext" Vite 8 makes a plain `var` of `await using` at the top of a module: the world would never close.
    target: "es2022",
    modulePreload: false,
    outDir: "dist/vite",
    rollupOptions: {
      input: ["main.ts", "worker.ts"],
      output: { entryFileNames: "[name].js" },
      preserveEntrySignatures: "strict",
    },
  },
};
