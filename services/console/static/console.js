// Keeps ages up to date, says whether the feed is connected, and keeps the feed short.
"use strict";

const MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86400, YEAR_S = 365.25 * 86400;
const MAX_LINES = 200;

// As `age_text` of the server says it.
function ageText(since) {
  const seconds = (Date.now() - new Date(since).getTime()) / 1000;
  const size = Math.abs(seconds);
  let text;
  if (size < MINUTE_S) text = `${Math.round(size)} s`;
  else if (size < HOUR_S) text = `${Math.floor(size / MINUTE_S)} min`;
  else if (size < DAY_S) text = `${Math.floor(size / HOUR_S)} h`;
  else if (size < YEAR_S) text = `${Math.floor(size / DAY_S)} d`;
  else text = `${(size / YEAR_S).toFixed(1)} yr`;
  return seconds >= 0 ? `${text} ago` : `in ${text}`;
}

function refreshAges() {
  for (const element of document.querySelectorAll("[data-since]")) {
    const text = ageText(element.dataset.since);
    if (element.textContent !== text) element.textContent = text;
  }
}

function tellConnection(state) {
  const element = document.getElementById("connection");
  if (element && element.textContent !== state) {
    element.textContent = state;
    element.dataset.state = state;
  }
}

function shortenFeed() {
  for (const feed of document.querySelectorAll("[data-feed]")) {
    while (feed.children.length > MAX_LINES) feed.lastElementChild.remove();
    const empty = document.getElementById(feed.dataset.feed);
    if (empty && feed.children.length) empty.hidden = true;
  }
}

setInterval(refreshAges, 1000);
document.addEventListener("htmx:sseOpen", () => tellConnection("live"));
document.addEventListener("htmx:sseError", () => tellConnection("offline"));
document.addEventListener("htmx:sseClose", () => tellConnection("offline"));
document.addEventListener("htmx:sseMessage", shortenFeed);
// What was refused is told where the form is; a part that refreshes itself stays as it was.
document.addEventListener("htmx:beforeSwap", (event) => {
  const isForm = event.detail.requestConfig.verb !== "get";
  if (event.detail.xhr.status >= 400 && isForm) event.detail.shouldSwap = true;
});
