// All texts go through textContent, which escapes them.
"use strict";

const MOST_ROWS = 200;
const MOST_FAILURES = 100;
const EVERY = 500;  // milliseconds
const byId = (id) => document.getElementById(id);

let isPaused = false;
let last = null;
let missed = 0;

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// A long name is broken after a dot, if that is enough.
function cell(name) {
  const [first, ...others] = name.split(".");
  const made = element("td", first, "name");
  for (const part of others) made.append(".", element("wbr"), part);
  return made;
}

function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { hour12: false });
}

function isWanted(name) {
  return name.includes(byId("filter").value);
}

function showEvents(at, events) {
  const rows = byId("events");
  const added = [];
  for (const [, name, payload] of events) {
    if (!isWanted(name)) continue;
    const row = element("tr", undefined, name === "event.handler.failed" ? "bad" : "");
    row.append(element("td", clock(at), "time"), cell(name), element("td", payload, "payload"));
    added.unshift(row);
  }
  rows.prepend(...added);
  while (rows.rows.length > MOST_ROWS) rows.deleteRow(-1);
  tellIfEmpty();
}

function tellIfEmpty() {
  byId("no-events").hidden = byId("events").rows.length > 0;
  byId("no-events").textContent = byId("filter").value ? "None with such a name yet." : "None yet.";
}

function showFailures(failures) {
  const list = byId("failures");
  for (const [number, at, event, component, what, causes] of failures) {
    const item = element("li");
    item.value = number;
    const way = [...causes, event].filter((name, place, all) => name !== all[place - 1]);
    item.append(element("b", component), ` ${what} `,
      element("div", `${clock(at)}  ${way.join(" → ")}`, "faint"));
    list.prepend(item);
  }
  while (list.children.length > MOST_FAILURES) list.lastChild.remove();
  byId("no-failures").hidden = list.children.length > 0;
}

function bar(label, value, most, text) {
  const row = element("div", undefined, "bar");
  const meter = element("meter");
  meter.max = Math.max(most, 1);
  meter.value = value;
  row.append(element("span", label), meter, element("span", text, "number"));
  return row;
}

function showStates(kinds) {
  const made = [];
  for (const [example, states] of kinds) {
    const all = states.reduce((sum, [, count]) => sum + count, 0);
    made.push(element("h3", all === 1 ? example : `${example} and ${all - 1} more`));
    for (const [state, count] of states) made.push(bar(state, count, all, count.toLocaleString()));
  }
  byId("states").replaceChildren(...made);
  byId("no-states").hidden = made.length > 0;
}

function showGauges(limits, watched) {
  const made = [];
  if (limits.length) made.push(element("h3", "Limits"));
  for (const [event, owner, running, waiting, limit] of limits) {
    const row = bar(`${owner}: ${event}`, running, limit, `${running} of ${limit}`);
    if (waiting) {
      row.firstChild.append(element("div", `${waiting.toLocaleString()} waiting`, "faint"));
    }
    made.push(row);
  }
  for (const [kind, name, numbers] of watched) {
    made.push(element("h3", `${kind[0].toUpperCase()}${kind.slice(1)} ${name}`));
    const most = Math.max(...Object.values(numbers));
    for (const [what, number] of Object.entries(numbers)) {
      made.push(bar(what.replaceAll("_", " "), number, most, number.toLocaleString()));
    }
  }
  byId("gauges").replaceChildren(...made);
  byId("no-gauges").hidden = made.length > 0;
}

function show(news) {
  byId("published").textContent = news.published.toLocaleString();
  byId("failed").textContent = news.failed.toLocaleString();
  if (last && news.look === last.look && news.time > last.time) {
    const rate = (news.published - last.published) / (news.time - last.time);
    byId("rate").textContent = Math.round(rate).toLocaleString();
  }
  if (last && news.monitor !== last.monitor) byId("failures").replaceChildren();
  last = news;
  showFailures(news.failures);
  missed += news.missed + (isPaused ? news.events.length : 0);
  byId("missed").textContent = missed ? `${missed.toLocaleString()} not shown` : "";
  if (isPaused) return;
  showEvents(news.time, news.events);
  showStates(news.states);
  showGauges(news.limits, news.watched);
}

byId("pause").addEventListener("click", (event) => {
  isPaused = !isPaused;
  event.target.setAttribute("aria-pressed", String(isPaused));
  event.target.textContent = isPaused ? "Go on" : "Pause";
});

byId("filter").addEventListener("input", () => {
  for (const row of [...byId("events").rows]) {
    if (!isWanted(row.querySelector(".name").textContent)) row.remove();
  }
  tellIfEmpty();
});

function tell(text, isBad) {
  byId("link").textContent = text;
  byId("link").className = isBad ? "bad" : "";
}

async function ask() {
  const seen = last ? `?monitor=${last.monitor}&look=${last.look}&seen=${last.published}`
    + `&failed=${last.failed}` : "";
  try {
    const answer = await fetch(`now${seen}`, { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    tell("live", false);
  } catch (error) {
    tell(`not connected: ${error.message}`, true);
  }
  setTimeout(ask, EVERY);
}

ask();
