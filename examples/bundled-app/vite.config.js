// A program, not a page: two entries, whose names stay.
export default {
  build: {
    target: "esnext",
    modulePreload: false,
    outDir: "dist/vite",
    rollupOptions: {
      input: ["main.ts", "worker.ts"],
      output: { entryFileNames: "[name].js" },
      preserveEntrySignatures: "strict",
    },
  },
};
