// A program, not a page: two entries, whose names stay.
export default {
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
