// The lists behind the counts: a card with a table, fifty rows at a time. Which lists there are is data (LISTS); what
// app.js gives is called only once the page is there.
"use strict";

const ORDER_STATUSES = ["pending", "awaiting_payment", "confirmed", "rejected", "cancelled", "shipped", "expired"];
const PAYMENT_STATUSES = ["creating", "open", "cancelled", "succeeded", "refunding", "refunded"];

const money = (amount, currency) => (amount === null ? "–" : `${Number(amount).toFixed(2)} ${currency ?? ""}`);
const moment = (at) => (at ? make("time", { datetime: at, title: at }, new Date(at).toLocaleString()) : "–");
const orderCell = (id) => (id ? make("button", { type: "button", class: "id", "data-key": `list-order-${id}`, "data-order": id, on: () => showOrder(id) }, id) : "–");

const ORDERS = {
  path: "orders",
  columns: ["Created", "Status", "Total", "Customer", "Order"],
  row: (order) => [moment(order.created_at), order.status ?? "–", money(order.total, order.currency), order.customer_email ?? "–", orderCell(order.order_id)],
};
const EVENTS = {
  path: "events",
  columns: ["Since", "State", "Event", "Event id", "Order"],
  row: (event) => [moment(event.pending_since), event.outbox, event.event_type ?? "–", make("span", { class: "id" }, event.event_id), orderCell(event.order_id)],
};
const PAYMENTS = {
  path: "payments",
  columns: ["Status", "Amount", "Was due", "Updated", "Order"],
  row: (payment) => [payment.status ?? "none yet", money(payment.amount, payment.currency), moment(payment.due_at), moment(payment.updated_at), orderCell(payment.order_id)],
};
const PRODUCTS = {
  path: "products",
  columns: ["Product", "Category", "Price", "Stock", "Product id"],
  row: (product) => [product.name + (product.active ? "" : " (withdrawn)"), product.category ?? "–", money(product.price, product.currency), String(product.stock ?? "–"), make("span", { class: "id" }, product.product_id)],
};
const MAILS = {
  path: "mails",
  columns: ["Begun", "Without an answer", "Event", "Event id", "Order"],
  row: (mail) => [moment(mail.since), String(mail.unknown_attempts), mail.event_type ?? "–", make("span", { class: "id" }, mail.event_id), orderCell(mail.order_id)],
};

// Each list by its name: its title, what it asks for, and what it is of.
const LISTS = {
  "orders-late": { title: "Late orders", query: { late: true }, of: ORDERS },
  "orders-pending": { title: "Pending orders", query: { status: "pending" }, of: ORDERS },
  "events-stuck": { title: "Stuck events", query: {}, of: EVENTS },
  "events-pending": { title: "Pending events", query: { pending: true }, of: EVENTS },
  "mails-unknown": { title: "Mails of unknown outcome", query: {}, of: MAILS },
  "payments-overdue": { title: "Overdue payments", query: { overdue: true }, of: PAYMENTS },
  products: { title: "Products", query: {}, of: PRODUCTS },
};

let list = null; // the list on the page: its title, what it asks for, its rows and from where to go on
let listAsked = 0; // the number of the last question: an answer to an earlier one is not put in

function openList(name) {
  const { title, query, of } = LISTS[name];
  return loadList({ title, query, of, rows: [], read: null, next: null });
}

// Asks for the first page of a list, or the next one.
async function loadList(wanted) {
  const asked = ++listAsked;
  const query = new URLSearchParams(wanted.query);
  if (wanted.next !== null) query.set("from", wanted.next);
  $("list").hidden = false;
  setText($("list-title"), wanted.title);
  setText($("list-said"), "reading …");
  try {
    const page = await call(`/api/lists/${wanted.of.path}?${query}`);
    if (asked !== listAsked) return;
    const read = page.read === null ? null : (wanted.read ?? 0) + page.read;
    list = { ...wanted, rows: [...wanted.rows, ...page.items], read, next: page.next };
    renderList();
  } catch (error) {
    if (asked !== listAsked) return;
    list = null;
    replaceKeepingFocus($("list-rows"), []);
    setText($("list-said"), error.message);
  }
  if (wanted.next === null) $("list").scrollIntoView({ block: "nearest" });
}

function renderList() {
  const { of, rows, next } = list;
  $("list-head").replaceChildren(...of.columns.map((name) => make("th", { role: "columnheader", scope: "col" }, name)));
  const lines = rows.map((row) => make("tr", { role: "row", "data-row": "" },
    ...of.row(row).map((value, index) => make("td", { role: "cell", "data-name": of.columns[index] }, value))));
  if (next !== null) {
    const more = make("button", { type: "button", id: "list-more", "data-key": "list-more", on: () => loadList(list) }, rows.length === 0 ? "Read on" : "Show more");
    lines.push(make("tr", { role: "row" }, make("td", { role: "cell", colspan: of.columns.length, class: "empty" }, more)));
  } else if (rows.length === 0) {
    lines.push(make("tr", { role: "row" }, make("td", { role: "cell", colspan: of.columns.length, class: "empty" }, "None.")));
  }
  replaceKeepingFocus($("list-rows"), lines, $("list-title"));
  setText($("list-said"), listSaid());
}

// How much there is on the page, and how far it was read for that.
function listSaid() {
  const { rows, read, next } = list;
  const count = rows.length === 1 ? "1 row" : `${rows.length} rows`;
  if (read === null) return next === null ? `${count}, that is all.` : `${count}; there are more.`;
  const items = read.toLocaleString("en");
  return next === null ? `${count}; all ${items} of the table were read.` : `${count}; read ${items} of the table so far.`;
}

// A count that opens its list.
function listButton(number, name) {
  const button = make("button", { type: "button", class: "count", "data-key": `count-${name}`, "data-list": name, on: () => openList(name) }, String(number));
  button.setAttribute("aria-label", `${LISTS[name].title}: ${number}, open the list`);
  return button;
}

// What each consumer did with an event, as lines below it.
function consumerLines(event) {
  const did = { done: "done", in_progress: "under way", unknown: "outcome unknown", given_back: "to be tried again", no_marker: "not noted" };
  const handled = event.consumers ?? [];
  if (handled.length === 0) return [];
  return [make("ul", { class: "consumers" }, ...handled.map((one) => {
    const at = one.done_at ?? one.claimed_at;
    const after = at ? `, after ${Math.max(0, new Date(at) - new Date(event.timestamp))} ms` : "";
    const attempts = one.unknown_attempts > 0 ? `, ${one.unknown_attempts} without an answer` : "";
    return make("li", { "data-consumer": one.consumer, class: one.state }, `${one.consumer}: ${did[one.state] ?? one.state}${attempts}${after}`);
  }))];
}

// What is said of an order besides: what connects it with the logs, and how far its payment has come.
function orderFacts(order, events) {
  const facts = [["Correlation id", events[0]?.correlation_id ?? "–"]];
  if (order.payment !== undefined) facts.push(["Payment", order.payment?.status ?? order.payment?.error ?? "none yet"]);
  return facts;
}

function fillSelect(select, values) {
  select.append(...values.map((value) => make("option", { value }, value.replaceAll("_", " "))));
}

function startLists() {
  for (const [name, { title }] of Object.entries(LISTS)) {
    $("list-names").append(make("button", { type: "button", "data-open-list": name, on: () => openList(name) }, title));
  }
  fillSelect($("orders-status"), ORDER_STATUSES);
  fillSelect($("payments-status"), PAYMENT_STATUSES);
  const submitted = (id, open) => $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    open();
  });
  const opened = (title, query, of) => loadList({ title, query, of, rows: [], read: null, next: null });
  submitted("orders-by-status", () => {
    const status = $("orders-status").value;
    opened(`Orders: ${status.replaceAll("_", " ")}`, { status }, ORDERS);
  });
  // The address is in the field: it stays out of the title, which may be on a picture of the page.
  submitted("orders-by-customer", () => opened("Orders of a customer", { customer: $("orders-customer").value.trim() }, ORDERS));
  submitted("payments-by-status", () => {
    const status = $("payments-status").value;
    opened(`Payments: ${status}`, { status }, PAYMENTS);
  });
}
startLists();
