// A worker that never says anything, and stays.
setInterval(() => undefined, 1_000);
