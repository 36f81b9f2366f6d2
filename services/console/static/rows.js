// Opens and closes what stands beneath a row of a table. It is fetched once.
"use strict";

document.addEventListener("htmx:beforeRequest", (event) => {
  const button = event.detail.elt;
  const rows = document.getElementById(button.getAttribute("aria-controls"));
  if (!rows) return;
  event.preventDefault();
  rows.hidden = !rows.hidden;
  button.setAttribute("aria-expanded", String(!rows.hidden));
});
document.addEventListener("htmx:afterSwap", (event) => {
  const button = event.detail.requestConfig?.elt;
  if (button?.hasAttribute("aria-controls")) button.setAttribute("aria-expanded", "true");
});
