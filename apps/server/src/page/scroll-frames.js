// Parts of the page that scroll: keyboards reach them while there is something to scroll, and pass them by otherwise.

/** Sees sizes change, of the frames and of what is in them. */
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) update(target.matches(".scroll") ? target : target.parentElement);
});

/** @param {Element | null} frame */
function update(frame) {
  if (!(frame instanceof HTMLElement)) return;
  const scrolls = frame.scrollWidth > frame.clientWidth || frame.scrollHeight > frame.clientHeight;
  // One that has the focus keeps it.
  if (scrolls) frame.tabIndex = 0;
  else if (document.activeElement !== frame) frame.removeAttribute("tabindex");
}

/** @param {Element} frame whose parts may become larger than it is */
export function reachByKeyboard(frame) {
  sizes.observe(frame);
  for (const child of frame.children) sizes.observe(child);
}
