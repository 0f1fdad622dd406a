// Ages that tick, live updates, keys. Everything works without it too, except that nothing moves.
"use strict";

const LOST_SECONDS = 6;      // a beat comes every second
const RELOAD_SECONDS = 15;   // without live updates
const EARLIEST_MS = 1000;    // between two refreshes; more when the daemon takes long to answer
const MOST_READ_OUT = 5;     // new alarms at a time; more are counted
const LOUD = ["P1", "P2"];   // priorities with a sound
const BEEP_MS = 2000;
const POLL_MS = 2000;        // between two looks at what is under way
const SHARE = 10;            // a page takes at most one tenth of the daemon's time

const page = { shown: Number(document.body.dataset.time), offset: 0, beat: performance.now(), number: null, lost: false };
page.offset = page.shown - Date.now() / 1000;
const now = () => Date.now() / 1000 + page.offset;
const is_live = document.body.dataset.live === "yes";
const is_heard = document.body.dataset.live !== "off";   // not before one has signed in

function age(seconds) {
  if (!(seconds < 100 * 365 * 86400)) return "more than 100 years";
  const s = Math.max(0, Math.floor(seconds)), two = n => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s % 3600 / 60))} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
}

function tick() {
  for (const node of document.querySelectorAll("time.age")) {
    const moment = Date.parse(node.dateTime) / 1000;
    const text = age(node.classList.contains("left") ? moment - now() : now() - moment);
    if (node.textContent !== text) node.textContent = text;
  }
  document.getElementById("clock").textContent =
    new Date(now() * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";
  if (is_heard) watch();
}

// --- the link to the daemon ---------------------------------------------------------------------------------

function watch() {
  const silent = (performance.now() - page.beat) / 1000;
  const lost = silent > LOST_SECONDS + (page.polled ? RELOAD_SECONDS : 0);
  const banner = document.getElementById("lost"), link = document.getElementById("link");
  if (lost) banner.textContent = `Connection to the daemon lost: what you see is ${age(now() - page.shown)} old.`;
  const told = lost ? "not live" : page.polled ? `every ${RELOAD_SECONDS} s` : "live";
  if (link.textContent === told) return;
  page.lost = lost;
  banner.hidden = !lost;
  document.body.classList.toggle("stale", lost);
  link.textContent = told;
  link.classList.toggle("up", !lost);
}

function announce(alarms) {
  const known = page.alarms;
  page.alarms = new Set(alarms.map(alarm => alarm.id));
  if (!known) return;
  const fresh = alarms.filter(alarm => !known.has(alarm.id));
  const say = text => {
    const line = document.createElement("p");
    line.textContent = text;
    document.getElementById("announcer").append(line);
  };
  for (const alarm of fresh.slice(0, MOST_READ_OUT))
    say(`New alarm, ${alarm.priority}: ${alarm.id.replace("/", " ")}. ${alarm.text}`);
  if (fresh.length > MOST_READ_OUT) say(`and ${fresh.length - MOST_READ_OUT} more new alarms`);
}

// --- a sound for new P1 and P2 alarms, until somebody acknowledges them ----------------------------------------

// localStorage "dqm-sound": the alarms that called when the sound was switched on, as JSON; they are not new.
// (or "wait", when they are not known yet). Without it the sound is off. It outlives the page, so an alarm sounds on whichever page is opened next.
const sound = { button: document.getElementById("sound"), context: null, timer: null };

function read_old() {
  try { return new Set(JSON.parse(localStorage.getItem("dqm-sound"))); } catch { return new Set(); }
}

function is_sound_on() { return localStorage.getItem("dqm-sound") !== null; }

function hear_sound(alarms) {
  if (!sound.button || !is_sound_on()) { silence(); return; }
  const urgent = alarms.filter(alarm => LOUD.includes(alarm.priority)).map(alarm => alarm.id);
  if (localStorage.getItem("dqm-sound") === "wait") localStorage.setItem("dqm-sound", JSON.stringify(urgent));
  const old = read_old(), still = urgent.filter(id => old.has(id));
  if (still.length !== old.size) localStorage.setItem("dqm-sound", JSON.stringify(still));   // it may come again
  if (urgent.length > still.length) ring(); else silence();
}

function ring() {
  document.body.dataset.sound = "on";
  if (sound.timer !== null) return;
  beep();
  sound.timer = setInterval(beep, BEEP_MS);
}

function silence() {
  document.body.dataset.sound = "off";
  clearInterval(sound.timer);
  sound.timer = null;
}

function may_play() { return sound.context !== null || (navigator.userActivation?.hasBeenActive ?? true); }

function beep() {
  if (!may_play()) { show_sound(); return; }   // a browser complains about a page that plays unasked
  const context = sound.context ??= new AudioContext();
  if (context.state !== "running") { show_sound(); context.resume().then(show_sound, () => {}); return; }
  const tone = context.createOscillator(), volume = context.createGain(), begin = context.currentTime;
  tone.frequency.setValueAtTime(880, begin);
  tone.frequency.setValueAtTime(660, begin + 0.15);
  volume.gain.setValueAtTime(0.2, begin);
  volume.gain.linearRampToValueAtTime(0, begin + 0.35);
  tone.connect(volume).connect(context.destination);
  tone.start(begin);
  tone.stop(begin + 0.35);
  document.body.dataset.beeps = Number(document.body.dataset.beeps ?? 0) + 1;
}

function show_sound() {
  if (!sound.button) return;
  const waits = is_sound_on() && (!may_play() || sound.context?.state === "suspended");
  sound.button.hidden = false;
  sound.button.setAttribute("aria-pressed", String(is_sound_on()));
  sound.button.textContent = waits ? "Sound: click the page" : is_sound_on() ? "Sound on" : "Sound off";
}

function toggle_sound() {
  if (is_sound_on()) localStorage.removeItem("dqm-sound");
  else localStorage.setItem("dqm-sound", page.alarms ? JSON.stringify([...page.alarms]) : "wait");
  if (is_sound_on()) wake_sound(); else silence();
  show_sound();
}

function wake_sound() {   // within a click or a key, when a browser allows it
  if (!is_sound_on()) return;
  sound.context ??= new AudioContext();
  sound.context.resume().then(show_sound, () => {});
}

function hear(event) {
  const beat = JSON.parse(event.data);
  page.beat = performance.now();
  page.polled = false;
  page.offset = beat.time - Date.now() / 1000;
  announce(beat.alarms);
  hear_sound(beat.alarms);
  const changed = page.number !== null && beat.number !== page.number;
  page.number = beat.number;
  if (changed || page.lost) refresh(); else if (!page.dirty) page.shown = beat.time;
}

function listen() {
  const source = new EventSource("/events");
  source.onmessage = hear;
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return;   // it tries again by itself
    page.polled = true;
    setTimeout(poll, RELOAD_SECONDS * 1000);
  };
}

async function poll() {   // too many pages listen, or the daemon is starting
  await refresh();
  listen();
}

async function refresh(is_asked = false) {
  if (!is_live && !is_asked) return;
  if (page.busy) { page.dirty = true; return; }
  page.busy = true;
  page.dirty = false;
  const begin = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected) { location.assign(answer.url); return; }   // one must sign in, again
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      page.shown = Number(fresh.body.dataset.time);
      page.beat = performance.now();
      document.title = fresh.title;
      for (const id of ["content", "origins", "who"]) morph(document.getElementById(id), fresh.getElementById(id));
      document.dispatchEvent(new Event("refreshed"));
      tick();
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;   // the network: the banner tells
  }
  setTimeout(() => { page.busy = false; if (page.dirty) refresh(); }, Math.max(EARLIEST_MS, SHARE * (performance.now() - begin)));
}

// --- new content into old, so that focus, open parts and half-written forms stay ------------------------------

function is_in_use(form) {
  return form.contains(document.activeElement) ||
    [...form.elements].some(field => field.value !== undefined && field.value !== field.defaultValue && field.type !== "checkbox" && field.nodeName === "INPUT");
}

function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName || (old.id || "") !== (fresh.id || "")) { old.replaceWith(fresh); return; }
  if (old.nodeType !== Node.ELEMENT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  if (old.isEqualNode(fresh)) return;
  if (old.nodeName === "FORM" && is_in_use(old)) return;
  if ("chart" in old.dataset) {   // content, class and size are what was drawn
    old.setAttribute("aria-label", fresh.getAttribute("aria-label"));
    return;
  }
  if ("opened" in fresh.dataset && !("opened" in old.dataset)) old.open = true;   // something in it has gone bad
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "class") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  const named = new Map([...old.children].filter(child => child.id).map(child => [child.id, child]));
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const match = child.id ? named.get(child.id) : place && !place.id && place.nodeName === child.nodeName ? place : null;
    if (!match) { old.insertBefore(child, place); continue; }
    if (match === place) place = place.nextSibling; else old.insertBefore(match, place);
    morph(match, child);
  }
  while (place) { const next = place.nextSibling; place.remove(); place = next; }
}

// --- keys -----------------------------------------------------------------------------------------------------

function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")].filter(row => row.checkVisibility());   // none in a closed group
  const at = rows.findIndex(row => row.contains(document.activeElement));
  const row = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  row?.querySelector(".main")?.focus();
}

function acknowledge() {
  const row = document.activeElement.closest("[data-row]");
  const find = place => place.querySelector("form[action$='/acknowledge'] [name=comment], details .sign-in, #actions .sign-in");
  const target = (row && find(row)) || find(document);
  if (!target) return;
  const box = target.closest("details");
  if (box) box.open = true;
  target.focus();
}

const go = address => () => { location.href = address; };
const follow = rel => () => document.querySelector(`a[rel=${rel}]`)?.click();
const KEYS = {
  o: go("/"), a: go("/alarms"), m: go("/masks"), w: go("/wall"), "?": go("/help"),
  j: () => step(1), k: () => step(-1), x: acknowledge, p: follow("prev"), n: follow("next"),
  "/": () => { const field = document.getElementById("filter"); if (field) field.focus(); else location.href = "/"; },
};

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || localStorage.getItem("dqm-keys") === "off") return;
  if (event.key === "Escape") { document.activeElement.blur(); return; }
  if (event.target.closest("input:not([type=checkbox]), textarea, select") || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
}

document.addEventListener("keydown", press);
const keys_off = document.getElementById("keys-off");
if (keys_off) {
  keys_off.checked = localStorage.getItem("dqm-keys") === "off";
  keys_off.addEventListener("change", () => localStorage.setItem("dqm-keys", keys_off.checked ? "off" : "on"));
}
if (sound.button) {
  sound.button.addEventListener("click", toggle_sound);
  for (const kind of ["pointerdown", "keydown"]) document.addEventListener(kind, wake_sound);
  addEventListener("storage", show_sound);   // switched in another window of this browser
  show_sound();
}
tick();
setInterval(tick, 1000);
setInterval(() => { if (document.querySelector("[data-poll]")) refresh(true); }, POLL_MS);   // something is under way
if (is_heard) listen();
