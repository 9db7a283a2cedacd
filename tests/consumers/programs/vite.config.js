export default { build: { target: "esnext", rollupOptions: { input: "page.html" } }, worker: { format: "es" } };
