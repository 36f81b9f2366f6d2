// Keeps ages up to date, says whether the feed is connected, keeps it short and without repetitions, has pages that
// missed something load it, and closes and opens again what was fetched to stand beneath a row.
"use strict";

const MINUTE_S = 60, HOUR_S = 3600, DAY_S = 86400, YEAR_S = 365.25 * 86400;
const MAX_LINES = 200;
const NEWS_MS = 8000;
// How often at most a screen reader is told what came.
const OFFLINE_MS = 6000;
// Longer than the server tells browsers to wait before they come back.
const HIDDEN_MS = 10000;
// A page that nobody sees gives its connection back: browsers have six for each server, and every tab would hold one.

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

let offlineTimer = null;

// live: connected, and the broker tells what happens; feed waits: it does not; offline: not connected.
function tellConnection(state) {
  clearTimeout(offlineTimer);
  offlineTimer = null;
  const element = document.getElementById("connection");
  if (element && element.textContent !== state) {
    element.textContent = state;
    element.dataset.state = state.replace(" ", "-");
  }
}

// A stream ends now and then, and goes on at once; that is no news.
function mayBeOffline() {
  offlineTimer ??= setTimeout(() => tellConnection("offline"), OFFLINE_MS);
}

function shortenFeed() {
  for (const feed of document.querySelectorAll("[data-feed]")) {
    while (feed.children.length > MAX_LINES) feed.lastElementChild.remove();
    const empty = document.getElementById(feed.dataset.feed);
    if (empty && feed.children.length) empty.hidden = true;
  }
}

let newsTimer = null;
const news = new Map();

// What came is said in one sentence now and then; read line by line, a busy hour would never end.
function gatherNews(feed, line) {
  if (!line || (line.classList.contains("test") && feed.classList.contains("no-tests"))) return;
  news.set(line.dataset.kind, (news.get(line.dataset.kind) || 0) + 1);
  newsTimer ??= setTimeout(() => {
    const words = [...news].map(([kind, number]) => `${number} ${kind === "skymap" ? "sky map" : kind}${number > 1 ? "s" : ""}`);
    const element = document.getElementById(feed.dataset.news);
    if (element) element.textContent = `New: ${words.join(", ")}`;
    news.clear();
    newsTimer = null;
  }, NEWS_MS);
}

// Has every part of the page that changes with an event fetch itself anew.
function refreshLiveParts() {
  for (const element of document.querySelectorAll("[hx-trigger*='sse:']")) {
    const [event] = element.getAttribute("hx-trigger").split(",").map((each) => each.trim().split(/\s/)[0]);
    if (event.startsWith("sse:")) htmx.trigger(element, event);
  }
}

let place = null;
let feed = null;
let restTimer = null;

// What htmx takes for an EventSource: one that rests while nobody looks, and goes on behind what was heard last.
class Feed {
  onopen = null;
  onerror = null;
  listeners = [];
  source = null;

  constructor(address) {
    this.address = address;
    if (!document.hidden) this.wake();
  }

  wake() {
    if (this.source !== null) return;
    const behind = `${this.address.split("?")[0]}?after=${encodeURIComponent(place)}`;
    this.source = new EventSource(place === null ? this.address : behind);
    this.source.onopen = (event) => this.onopen?.(event);
    this.source.onerror = (event) => {
      mayBeOffline();
      // Otherwise the browser comes back by itself.
      if (this.readyState === EventSource.CLOSED) this.onerror?.(event);
    };
    for (const [name, heard] of this.listeners) this.source.addEventListener(name, heard);
  }

  rest() {
    this.source?.close();
    this.source = null;
  }

  close() {
    this.rest();
    if (feed === this) feed = null;
  }

  get readyState() {
    return this.source === null ? EventSource.CONNECTING : this.source.readyState;
  }

  addEventListener(name, heard) {
    this.listeners.push([name, heard]);
    this.source?.addEventListener(name, heard);
  }

  removeEventListener(name, heard) {
    this.listeners = this.listeners.filter((each) => each[0] !== name || each[1] !== heard);
    this.source?.removeEventListener(name, heard);
  }
}

htmx.createEventSource = (address) => {
  feed = new Feed(address);
  const heard = (event) => { place = event.lastEventId || place; };
  feed.addEventListener("feed", heard);
  feed.addEventListener("state", (event) => { heard(event); tellConnection(event.data); });
  feed.addEventListener("gap", (event) => { heard(event); refreshLiveParts(); });
  return feed;
};

document.addEventListener("visibilitychange", () => {
  clearTimeout(restTimer);
  if (document.hidden) restTimer = setTimeout(() => feed?.rest(), HIDDEN_MS);
  else feed?.wake();
});

setInterval(refreshAges, 1000);
document.addEventListener("htmx:sseBeforeMessage", (event) => {
  const known = /data-line="(\w+)"/.exec(event.detail.data || "");
  // What happened while the page was made is on it, and comes again.
  if (known && document.querySelector(`[data-line="${known[1]}"]`)) event.preventDefault();
});
document.addEventListener("htmx:sseMessage", (event) => {
  if (event.target.dataset && event.target.dataset.news) gatherNews(event.target, event.target.firstElementChild);
  shortenFeed();
});
document.addEventListener("htmx:beforeRequest", (event) => {
  // Nobody loses the place where the keyboard is to figures that are a little newer.
  const element = event.detail.elt;
  const parts = [element, ...document.querySelectorAll(element.getAttribute("hx-select-oob") || "data-none")];
  if (element.matches("[data-polls]") && parts.some((part) => part.contains(document.activeElement))) event.preventDefault();
});
// What was refused is told where the form is; a part that refreshes itself stays as it was.
document.addEventListener("htmx:beforeSwap", (event) => {
  const isForm = event.detail.requestConfig.verb !== "get";
  if (event.detail.xhr.status >= 400 && isForm) event.detail.shouldSwap = true;
});
// What a button opened is there already: it closes it, and opens it again.
document.addEventListener("htmx:beforeRequest", (event) => {
  const button = event.detail.elt;
  const opened = document.getElementById(button.getAttribute("aria-controls"));
  if (!opened) return;
  event.preventDefault();
  opened.hidden = !opened.hidden;
  button.setAttribute("aria-expanded", String(!opened.hidden));
});
document.addEventListener("htmx:afterSwap", (event) => {
  const button = event.detail.requestConfig?.elt;
  if (button?.hasAttribute("aria-controls")) button.setAttribute("aria-expanded", "true");
});
