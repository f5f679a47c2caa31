// The page of `orderflow console`. Asks the command's own server, shows what it says. Everything that came from
// a message is put in as text, never as markup.
"use strict";

const POLL_MS = 2000;
// An answer that is older than this is not what is so now.
const STALE_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

// Behind the # of the URL stand the token, which the command printed and which goes out of the address bar at once, and
// the order that a link is to (#order=…), which stays there.
const fromUrl = new URLSearchParams(location.hash.slice(1));
if (fromUrl.get("token")) {
  sessionStorage.setItem("token", fromUrl.get("token"));
  history.replaceState(null, "", fromUrl.get("order") ? orderLink(fromUrl.get("order")) : "/");
}
const token = sessionStorage.getItem("token") ?? "";

async function call(path, body) {
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: { "x-orderflow-token": token, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(json.error ?? `the console answers ${answer.status}`);
  return json;
}

function orderLink(id) {
  return `/#${new URLSearchParams({ order: id })}`;
}

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") element.addEventListener("click", value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function draw(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Puts new children in the place of the old. What is the same stays: a button that is put in anew between press and release is
// not clicked. What had the focus has it again: it is known by its data-key. If it is gone, `instead` has it, so that the
// keyboard does not start at the top of the page.
function replaceKeepingFocus(parent, children, instead) {
  const focused = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const given = new Set(children);
  const replaceable = new Set([...parent.childNodes].filter((old) => !given.has(old)));
  const wanted = children.map((child) => {
    const same = child.parentNode === parent ? undefined : [...replaceable].find((old) => old.isEqualNode(child));
    replaceable.delete(same);
    return same ?? child;
  });
  for (const old of replaceable) old.remove();
  wanted.forEach((child, index) => {
    if (parent.childNodes[index] !== child) parent.insertBefore(child, parent.childNodes[index] ?? null);
  });
  if (focused === undefined || parent.contains(document.activeElement)) return;
  const again = [...parent.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused);
  (again ?? instead)?.focus();
}

function trouble(error) {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? error.message : "";
}

function span(seconds) {
  if (seconds < 120) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

// ------------------------------------------------------------------------------------------------- flow

let before = null; // the status of the last look: the change since is a queue's rate where there are no metrics
let answeredAt = Date.now(); // when the last look had its answer, or the page was opened; 0 after a failure
let deadListAt = null; // of when the list of dead letters on this page is

function backlog(queue) {
  return queue.waiting + queue.in_flight + queue.delayed;
}

function rate(queue, status) {
  if (queue.sent_per_minute !== null || queue.done_per_minute !== null) {
    return `${queue.sent_per_minute ?? 0} in, ${queue.done_per_minute ?? 0} done a minute`;
  }
  const old = before?.queues.find((one) => one.name === queue.name);
  const seconds = before ? (new Date(status.at) - new Date(before.at)) / 1000 : 0;
  if (!old || seconds <= 0) return "";
  const change = (backlog(queue) - backlog(old)) / seconds;
  if (change === 0) return backlog(queue) === 0 ? "idle" : "steady";
  return `${change > 0 ? "growing" : "shrinking"} by ${Math.abs(change).toFixed(1)}/s`;
}

function box(x, y, width, height, kind = "") {
  return draw("rect", { x, y, width, height, rx: 9, class: kind });
}

function label(x, y, text, kind = "") {
  return draw("text", { x, y, class: kind }, text);
}

function arrow(x1, y1, x2, y2, kind = "") {
  const middle = (x1 + x2) / 2;
  return draw("path", { d: `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`, class: kind, "marker-end": "url(#tip)" });
}

function showFlow(status) {
  const row = 146;
  const height = (status.queues.length - 1) * row + 142;
  const centre = height / 2;
  const svg = $("flow");
  svg.setAttribute("viewBox", `0 0 1000 ${height}`);
  const tip = draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" });
  tip.append(draw("path", { d: "M0 0L8 4L0 8z" }));
  const defs = draw("defs", {});
  defs.append(tip);
  const { outbox, orders } = status;
  const parts = [
    defs,
    arrow(150, centre, 188, centre),
    arrow(338, centre, 376, centre, outbox.pending > 0 ? "flowing" : ""),
    box(10, centre - 42, 140, 84, orders.pending > 0 ? "busy" : ""),
    label(80, centre - 18, "Orders", "name"),
    label(80, centre + 10, String(orders.pending), "number"),
    label(80, centre + 30, "pending", "small"),
    box(190, centre - 42, 148, 84, outbox.stuck > 0 ? "bad" : outbox.pending > 0 ? "busy" : ""),
    label(264, centre - 18, "Outbox", "name"),
    label(264, centre + 10, String(outbox.pending), "number"),
    label(264, centre + 30, `to publish, ${outbox.stuck} stuck`, outbox.stuck > 0 ? "bad-text" : "small"),
    box(378, centre - 30, 104, 60),
    label(430, centre - 2, "Topic", "name"),
    label(430, centre + 16, "orders", "small"),
  ];
  status.queues.forEach((queue, index) => {
    const y = 10 + index * row;
    const middle = y + 36;
    const flowing = backlog(queue) > 0;
    const off = queue.consumer !== "on";
    parts.push(
      arrow(482, centre, 548, middle, flowing ? "flowing" : ""),
      arrow(770, middle, 812, middle, queue.in_flight > 0 ? "flowing" : ""),
      box(550, y, 220, 74, flowing ? "busy" : ""),
      label(660, y + 18, queue.name, "name"),
      label(660, y + 44, String(queue.waiting), "number"),
      label(660, y + 63, `waiting, ${queue.in_flight} in flight, ${queue.delayed} delayed`, "small"),
      box(814, y, 180, 82, off ? "warn off" : ""),
      label(904, y + 20, queue.consumer_name, "name"),
      label(904, y + 38, consumerState(queue, status), off ? "warn-text" : "small"),
      switchOf(queue, 824, y + 46),
      arrow(660, y + 74, 660, y + 92, queue.dead > 0 ? "dead" : ""),
      box(600, y + 92, 120, 30, queue.dead > 0 ? "bad" : ""),
      label(660, y + 112, `${queue.dead} dead`, queue.dead > 0 ? "bad-text" : "small"),
      label(904, y + 100, rate(queue, status), "small"),
    );
    if (queue.oldest_age_seconds) parts.push(label(904, y + 117, `oldest ${span(queue.oldest_age_seconds)}`, "small"));
  });
  replaceKeepingFocus(svg, parts);
  svg.setAttribute("aria-label", status.queues.map((queue) =>
    `${queue.name}: ${queue.waiting} waiting, ${queue.in_flight} in flight, ${queue.dead} dead, consumer ${queue.consumer}`,
  ).join("; ") + `; outbox: ${outbox.pending} pending, ${outbox.stuck} stuck; orders: ${orders.pending} pending`);
}

// A count is a button that opens the list behind it (lists.js).
function fact(number, text, alarm, list) {
  return make("li", alarm ? { class: "alarm" } : {}, listButton(number, list), ` ${text}`);
}

function showFacts(status) {
  const { outbox, orders } = status;
  const items = [
    fact(orders.pending_too_long, `orders pending for longer than ${orders.pending_max_minutes} minutes`, orders.pending_too_long > 0, "orders-late"),
    fact(orders.pending, "orders pending", false, "orders-pending"),
    fact(outbox.stuck, "events stuck in the outbox", outbox.stuck > 0, "events-stuck"),
    fact(outbox.pending, "events to publish", false, "events-pending"),
  ];
  replaceKeepingFocus($("facts"), items);
}

// The switch of a consumer, inside its box.
function switchOf(queue, x, y) {
  const off = queue.consumer === "off";
  const button = make("button", {
    type: "button",
    id: `switch-${queue.name}`,
    "data-key": `switch-${queue.name}`,
    on: () => switchConsumer(queue.name, off ? "resume" : "pause"),
  }, switching.has(queue.name) ? "…" : off ? "Resume" : "Pause");
  button.setAttribute("aria-label", `${off ? "Resume" : "Pause"} the consumer of ${queue.name}`);
  const place = draw("foreignObject", { x, y, width: 160, height: 28 });
  place.append(button);
  return place;
}

// How long a consumer has been off tells a pause from one that was forgotten.
function consumerState(queue, status) {
  if (queue.consumer !== "off" || !queue.consumer_since) return queue.consumer;
  return `off for ${span((new Date(status.at) - new Date(queue.consumer_since)) / 1000)}`;
}

const switching = new Set(); // the queues whose consumers are being switched

async function switchConsumer(queue, how) {
  if (switching.has(queue)) return;
  if (how === "pause" && !(await confirmed(`Stop giving messages to the consumer of ${queue}? They wait on the queue, which keeps each for four days, until Resume.`, "Pause"))) return;
  switching.add(queue);
  try {
    await call(`/api/queues/${encodeURIComponent(queue)}/${how}`, {});
    switching.delete(queue);
    await look();
  } catch (error) {
    trouble(error);
  } finally {
    switching.delete(queue);
  }
}

// Asks, and waits for the answer; Escape is no.
function confirmed(question, yes) {
  const dialog = $("question");
  $("question-text").textContent = question;
  $("question-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
$("question-yes").addEventListener("click", () => $("question").close("yes"));
$("question-no").addEventListener("click", () => $("question").close("no"));

async function look() {
  const status = await call("/api/status");
  answeredAt = Date.now();
  trouble(null);
  $("stack").textContent = `stack ${status.stack}`;
  showFlow(status);
  showFacts(status);
  showRedrives(status.redrives);
  before = status;
  showLive();
  // The server makes one list for all pages, when the counts change and when one of them asks.
  if (deadListAt === null || status.dead_list_at !== deadListAt) showDead(await call("/api/dead"));
}

function showLive() {
  const stale = Date.now() - answeredAt > STALE_MS;
  const asOf = before ? `as of ${new Date(before.at).toLocaleTimeString()}` : "connecting …";
  $("live").className = stale || !before ? "off" : "";
  document.body.classList.toggle("stale", stale && before !== null);
  setText($("live"), stale ? `not up to date, ${asOf}` : asOf);
}

// Text that stays the same is not put in again: a screen reader would say it again.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

async function poll() {
  try {
    if (!document.hidden) await look();
  } catch (error) {
    answeredAt = 0;
    showLive();
    trouble(error);
  }
  setTimeout(poll, POLL_MS);
}

// Apart from the poll, which may be waiting for an answer that does not come.
setInterval(() => {
  showLive();
  showDeadAge();
}, 1000);

// ------------------------------------------------------------------------------------------ dead letters

const LETTERS_A_PAGE = 50; // more at once is more than a person reads, and than a page shows quickly

const busyLetters = new Set(); // the ids of the letters that are being redriven or dropped
const openLetters = new Set(); // the ids of those whose body is shown
let letters = []; // all that there are, oldest first in each queue
let heldElsewhere = 0;
const drawnLetters = new Map(); // the rows of the letters that are shown, by id: those that say the same are used again
let group = null; // the queue and reason of those that are shown, or null for all
let shownCount = LETTERS_A_PAGE;

function showDead(list) {
  deadListAt = list.at;
  letters = list.letters;
  heldElsewhere = list.held_elsewhere;
  renderDead();
}

function groupOf(letter) {
  return `${letter.queue}: ${letter.reason}`;
}

function selectedLetters() {
  return group === null ? letters : letters.filter((letter) => groupOf(letter) === group);
}

function renderDead() {
  const counts = new Map();
  for (const letter of letters) counts.set(groupOf(letter), (counts.get(groupOf(letter)) ?? 0) + 1);
  // What the filter was on is gone.
  if (group !== null && !counts.has(group)) group = null;
  const selected = selectedLetters();
  const shown = selected.slice(0, shownCount);
  replaceKeepingFocus($("dead-groups"), counts.size < 2 ? [] : [groupButton(null, letters.length), ...[...counts].map(([name, count]) => groupButton(name, count))]);
  replaceKeepingFocus($("dead-bulk"), selected.length < 2 ? [] : [
    make("button", { type: "button", id: "redrive-all", "data-key": "redrive-all", on: () => handleLetters("redrive", selectedLetters()) }, `Redrive these ${selected.length}`),
    make("button", { type: "button", id: "drop-all", "data-key": "drop-all", on: () => handleLetters("drop", selectedLetters()) }, `Drop these ${selected.length}`),
  ]);
  const rows = shown.flatMap(letterRows);
  const ids = new Set(shown.map((letter) => letter.message_id));
  for (const id of drawnLetters.keys()) if (!ids.has(id)) drawnLetters.delete(id);
  if (selected.length > shown.length) {
    const more = make("button", { type: "button", id: "more", "data-key": "more", on: () => { shownCount += LETTERS_A_PAGE; renderDead(); } },
      `Show ${Math.min(LETTERS_A_PAGE, selected.length - shown.length)} more of ${selected.length}`);
    rows.push(make("tr", { role: "row" }, make("td", { role: "cell", colspan: 6, class: "empty" }, more)));
  }
  if (heldElsewhere > 0) rows.push(emptyRow(`${heldElsewhere} ${heldElsewhere === 1 ? "is" : "are"} held by another listing; this list is made again until they are to be had.`));
  else if (rows.length === 0) rows.push(emptyRow("No dead letters."));
  replaceKeepingFocus($("dead"), rows, $("refresh"));
  showDeadAge();
}

function groupButton(name, count) {
  const button = make("button", {
    type: "button",
    "data-key": `group-${name}`,
    "data-group": name ?? "",
    "aria-pressed": String(group === name),
    on: () => { group = name; shownCount = LETTERS_A_PAGE; renderDead(); },
  }, `${name ?? "all"} (${count})`);
  return button;
}

// A letter, and below it, if it is open, all that it holds.
function letterRows(letter) {
  const isOpen = openLetters.has(letter.message_id);
  const says = JSON.stringify([letter, isOpen]);
  const drawn = drawnLetters.get(letter.message_id);
  if (drawn?.says === says) return drawn.rows;
  const rows = newLetterRows(letter, isOpen);
  drawnLetters.set(letter.message_id, { says, rows });
  return rows;
}

function newLetterRows(letter, isOpen) {
  const order = letter.order_id
    ? make("button", { type: "button", class: "id", "data-key": `order-${letter.message_id}`, on: () => showOrder(letter.order_id) }, letter.order_id)
    : "–";
  const action = (name, verb, attributes, on) => {
    const button = make("button", { type: "button", "data-key": `${name}-${letter.message_id}`, ...attributes, on }, verb);
    button.setAttribute("aria-label", `${verb} ${letter.event_type ?? "a letter"} of ${letter.queue}`);
    return button;
  };
  const cell = (name, ...children) => make("td", { role: "cell", "data-name": name }, ...children);
  const row = make("tr", { role: "row", "data-letter": letter.message_id },
    cell("Queue", letter.queue),
    cell("Reason", make("div", { class: "reason" }, letter.reason), make("div", { class: "detail" }, letter.detail ?? "")),
    cell("Event", letter.event_type ?? "–"),
    cell("Order", order),
    cell("Died", died(letter)),
    cell("",
      action("open", isOpen ? "Close" : "Open", { "data-open": letter.message_id, "aria-expanded": String(isOpen) }, () => openLetter(letter.message_id)), " ",
      action("redrive", "Redrive", { "data-redrive": letter.message_id }, () => handleLetters("redrive", [letter])), " ",
      action("drop", "Drop", { "data-drop": letter.message_id }, () => handleLetters("drop", [letter]))));
  if (!isOpen) return [row];
  const attributes = Object.entries(letter.attributes).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
  return [row, make("tr", { role: "row" }, make("td", { role: "cell", colspan: 6, class: "letter" },
    make("dl", {}, make("dt", {}, "message id"), make("dd", { class: "id" }, letter.message_id), ...attributes),
    make("pre", {}, readable(letter.body))))];
}

// JSON with its lines broken, or what else there is.
function readable(body) {
  try {
    return JSON.stringify(JSON.parse(body), null, 2);
  } catch {
    return body;
  }
}

function openLetter(id) {
  if (!openLetters.delete(id)) openLetters.add(id);
  renderDead();
}

function emptyRow(text) {
  return make("tr", { role: "row" }, make("td", { role: "cell", colspan: 6, class: "empty" }, text));
}

// Of a letter that SQS moved by itself only its sending is known.
function died(letter) {
  const known = letter.since_is === "failed_at";
  const first = letter.first_failed_at ? `; failed first at ${letter.first_failed_at}` : "";
  const title = known ? `${letter.since}${first}` : `sent at ${letter.since}; SQS moved it later and does not say when`;
  const time = make("time", { datetime: letter.since, title, "data-age": known ? "" : "sent " });
  showAge(time);
  return time;
}

function showAge(time) {
  setText(time, `${time.dataset.age}${span((Date.now() - new Date(time.dateTime)) / 1000)} ago`);
}

function showDeadAge() {
  document.querySelectorAll("#dead time[data-age]").forEach(showAge);
  setText($("dead-age"), deadListAt === null ? "" : `Looked at ${span((Date.now() - new Date(deadListAt)) / 1000)} ago.`);
}

function say(text) {
  $("dead-said").textContent = text;
}

// What became of the last redrives.
function showRedrives(redrives) {
  const line = (one) => {
    const letters = one.letters === 1 ? "1 letter" : `${one.letters} letters`;
    const became = one.became ?? "being handled …";
    return make("li", { "data-redriven": one.queue }, `${new Date(one.at).toLocaleTimeString()}: ${letters} of ${one.queue} redriven: ${became}`);
  };
  replaceKeepingFocus($("redrives"), redrives.map(line));
}

// Redrives or drops these letters, queue by queue; asks unless it is one that is redriven.
async function handleLetters(how, wanted) {
  if (wanted.some((letter) => busyLetters.has(letter.message_id))) return;
  const count = wanted.length === 1 ? "1 letter" : `${wanted.length} letters`;
  const question = how === "drop" ? `Delete ${count}? A copy is kept in a file where the console runs.` : `Send ${count} to their queues again?`;
  if ((how === "drop" || wanted.length > 1) && !(await confirmed(question, how === "drop" ? "Drop" : "Redrive"))) return;
  wanted.forEach((letter) => busyLetters.add(letter.message_id));
  say(how === "drop" ? "dropping …" : "redriving …");
  const said = [];
  try {
    for (const queue of new Set(wanted.map((letter) => letter.queue))) {
      const ids = wanted.filter((letter) => letter.queue === queue).map((letter) => letter.message_id);
      const done = await call(`/api/queues/${encodeURIComponent(queue)}/${how}`, { ids });
      const letters = done.done === 1 ? "1 letter" : `${done.done} letters`;
      said.push(how === "drop" ? `${letters} of ${queue} dropped; a copy is in ${done.copy}.` : `${letters} of ${queue} on its queue again.`, ...done.failed);
    }
    say(said.join(" "));
    await look();
  } catch (error) {
    say([...said, error.message].join(" "));
  } finally {
    wanted.forEach((letter) => busyLetters.delete(letter.message_id));
  }
}

// ------------------------------------------------------------------------------------------------- order

const ENDINGS = { OrderConfirmed: "good", OrderShipped: "good", OrderRejected: "bad", StockRejected: "bad", OrderCancelled: "bad", OrderExpired: "bad" };

async function showOrder(id) {
  const card = $("order");
  $("order-id").value = id;
  history.replaceState(null, "", orderLink(id));
  try {
    const { order, events } = await call(`/api/orders/${encodeURIComponent(id)}`);
    const first = new Date(events[0].timestamp);
    const what = [
      ["Status", order.status + (order.reason ? ` (${order.reason})` : "")],
      ["Customer", order.customer_email],
      ["Total", `${Number(order.total_price).toFixed(2)} ${order.currency}`],
      ["Items", order.items.map((line) => `${line.quantity} × ${line.product_name}`).join(", ")],
      ...orderFacts(order, events),
    ].flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]);
    const line = events.map((event) => make("li", { class: ENDINGS[event.event_type] ?? "" },
      make("strong", {}, event.event_type), " ",
      make("span", { class: `state ${event.outbox}` }, event.outbox),
      make("div", {}, make("time", { datetime: event.timestamp }, `${new Date(event.timestamp).toLocaleString()}, after ${((new Date(event.timestamp) - first) / 1000).toFixed(2)} s`)),
      make("div", { class: "id" }, event.event_id), ...consumerLines(event)));
    card.replaceChildren(make("dl", {}, ...what), make("ol", { class: "line" }, ...line));
  } catch (error) {
    card.replaceChildren(make("p", { role: "alert" }, error.message));
  }
  card.hidden = false;
  card.scrollIntoView({ block: "nearest" });
}

$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  showOrder($("order-id").value.trim());
});
$("refresh").addEventListener("click", async () => {
  say("listing …");
  try {
    showDead(await call("/api/dead", {}));
    say("");
  } catch (error) {
    say(error.message);
  }
});
// A link to an order, at the start and from another page of the person's.
function followLink() {
  const order = new URLSearchParams(location.hash.slice(1)).get("order");
  if (order && order !== $("order-id").value) showOrder(order);
}
addEventListener("hashchange", followLink);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look().catch(trouble);
});
// Once lists.js and charts.js are there, too.
addEventListener("DOMContentLoaded", () => {
  followLink();
  poll();
});
