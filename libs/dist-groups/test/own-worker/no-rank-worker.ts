// A worker that is no rank: it stays, and talks of something else.
setInterval(() => postMessage({ hello: "world" }), 20);
