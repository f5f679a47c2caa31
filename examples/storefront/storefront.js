// A shop's page: products, an order, its live status, its payment, its cancellation. No library and no build step.
// The live status comes over a WebSocket as docs/live-updates.md describes it; without one, by asking again.
"use strict";

const shop = window.STOREFRONT;
const byId = (id) => document.getElementById(id);

// ---------------------------------------------------------------------------------------------------- the API

/** An answer that is none of the wished for: RFC 9457. */
class Problem extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The shop answered ${status}.`);
    this.status = status;
    this.fields = problem.errors || [];
  }
}

async function call(method, path, { body, headers = {} } = {}) {
  const answer = await fetch(shop.api + path, {
    method,
    headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, json);
  return json;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick" || key === "onchange") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const money = (amount, currency) =>
  new Intl.NumberFormat(undefined, { style: "currency", currency }).format(amount);

function tell(error) {
  byId("trouble").hidden = !error;
  byId("trouble").textContent = error ? error.message : "";
}

// ----------------------------------------------------------------------------------------- products and basket

const products = new Map();
/** Pieces by product. */
const basket = new Map();
let next = null;

async function loadProducts() {
  const query = new URLSearchParams({ limit: "24", ...(next && { cursor: next }) });
  const page = await call("GET", `/products?${query}`);
  next = page.next_cursor;
  for (const product of page.products) {
    products.set(product.id, product);
    // Several buttons say the same to the eye, and each says which to the ear.
    const which = element("span", { class: "unseen" }, `: ${product.name}`);
    const add = element("button", { type: "button", onclick: () => put(product.id, 1) }, "Add to the basket", which);
    add.disabled = product.stock === 0;
    byId("products").append(element("li", { "data-product": product.id },
      element("strong", {}, product.name),
      element("span", { class: "price" }, money(product.price, product.currency)),
      element("span", { class: "soft" }, product.stock === 0 ? "sold out" : `${product.stock} in stock`),
      add));
  }
  byId("more").hidden = !next;
  byId("no-products").hidden = products.size > 0;
  byId("no-products").textContent = "The shop sells nothing yet. An administrator adds products by POST /products.";
}

function put(id, pieces) {
  const wanted = (basket.get(id) || 0) + pieces;
  if (wanted > 0) basket.set(id, Math.min(wanted, 1000));
  else basket.delete(id);
  attempt = null;
  showBasket();
}

/** In the currency's hundredths, of which each is exact. */
const hundredths = (price) => Math.round(price * 100);
const total = () =>
  [...basket].reduce((sum, [id, pieces]) => sum + hundredths(products.get(id).price) * pieces, 0) / 100;

function showBasket() {
  byId("empty").hidden = basket.size > 0;
  byId("checkout").hidden = basket.size === 0;
  byId("lines").replaceChildren(...[...basket].map(([id, pieces]) => {
    const { name } = products.get(id);
    const input = element("input", { type: "number", min: "0", max: "1000", value: pieces, "aria-label": `Pieces of ${name}` });
    input.onchange = () => put(id, Math.floor(input.valueAsNumber || 0) - pieces);
    return element("li", {}, element("span", { class: "what" }, name), input);
  }));
  const [first] = basket.keys();
  if (first) byId("total").textContent = money(total(), products.get(first).currency);
}

// ------------------------------------------------------------------------------------------------ placing it

/** One key for one order, however often it has to be sent until an answer comes. */
let attempt = null;

async function place(event) {
  event.preventDefault();
  const items = [...basket].map(([product_id, quantity]) => ({ product_id, quantity }));
  const body = { customer_email: byId("email").value.trim(), items, expected_total: total() };
  attempt ||= crypto.randomUUID();
  byId("place").disabled = true;
  byId("wrong").replaceChildren();
  try {
    const order = await call("POST", "/orders", { body, headers: { "idempotency-key": attempt } });
    sessionStorage.setItem("order", JSON.stringify({ id: order.id, token: order.order_token }));
    attempt = null;
    basket.clear();
    showBasket();
    openOrder(order, order.order_token);
    byId("order-title").focus();
  } catch (error) {
    // What was refused is another order when it is sent again; what had no answer is the same.
    if (error instanceof Problem && error.status < 500) attempt = null;
    const fields = error.fields?.length ? error.fields.map((f) => `${f.field} ${f.message}`) : [error.message];
    byId("wrong").replaceChildren(...fields.map((text) => element("p", {}, text)));
  } finally {
    byId("place").disabled = false;
  }
}

// ----------------------------------------------------------------------------------------------- the live order

/** What the page shows: the order, its token, and how far it knows it to have come. */
let current = null;

const WORDS = {
  pending: ["Received", "We are setting your goods aside."],
  awaiting_payment: ["To be paid", "Your goods are set aside. Please pay."],
  confirmed: ["Confirmed", "Your order is confirmed."],
  shipped: ["Shipped", "Your order is on its way."],
  rejected: ["Not available", "We cannot deliver this."],
  cancelled: ["Cancelled", "Your order is cancelled."],
  expired: ["Expired", "The order was not paid in time."],
};
const ENDS = ["shipped", "rejected", "cancelled", "expired"];

function openOrder(order, token) {
  current = { order, token, version: 0, seen: [] };
  byId("order").hidden = false;
  byId("order-id").textContent = order.id;
  byId("order-total").textContent = money(order.total_price, order.currency);
  byId("bought").replaceChildren(...order.items.map((line) => element("li", {},
    element("span", { class: "what" }, line.product_name), element("span", {}, `× ${line.quantity}`))));
  byId("history").replaceChildren();
  byId("payment").hidden = true;
  update({ status: order.status, reason: order.reason });
  follow(current);
}

/** Takes what is newer than what is known; a state that was read has no version and is the latest there is. */
function update({ version, status, reason }) {
  if (version !== undefined && version <= current.version) return;
  current.version = version ?? current.version;
  const { seen } = current;
  if (seen.at(-1) === status) return;
  seen.push(status);
  current.status = status;
  const [title, sentence] = WORDS[status] || [status, status];
  byId("status").textContent = reason ? `${sentence} ${reason}.` : sentence;
  byId("history").append(element("li", {}, element("time", {}, new Date().toLocaleTimeString()), title));
  showSteps();
  byId("cancel").hidden = ENDS.includes(status);
  byId("again").hidden = false;
  if (status === "awaiting_payment") showPayment(current).catch(tell);
  else byId("payment").hidden = true;
}

function showSteps() {
  const { status, seen } = current;
  const path = ["pending", ...(shop.stripe ? ["awaiting_payment"] : []), "confirmed", "shipped"];
  const steps = path.includes(status) ? path : [...seen.filter((step) => path.includes(step)), status];
  byId("steps").replaceChildren(...steps.map((step) => {
    const place = path.includes(status) ? Math.sign(path.indexOf(step) - path.indexOf(status)) : (step === status ? 0 : -1);
    const look = place < 0 ? "done" : place > 0 ? "" : path.includes(status) ? "now" : "bad";
    const item = element("li", look ? { class: look } : {}, (WORDS[step] || [step])[0]);
    if (place === 0) item.setAttribute("aria-current", "step");
    return item;
  }));
}

function showLink(text, isLive = false) {
  byId("link").textContent = text;
  byId("link").classList.toggle("live", isLive);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const isFollowed = (order) => order === current && !ENDS.includes(order.status);

/** An order is asked for every three seconds if no WebSocket has had anything to say this often. */
const LIVE_FAILURES_MAX = 3;
const RECONNECT_MS_MAX = 30_000;
/** A connection whose first answer takes longer is of no use. */
const FIRST_ANSWER_MS = 5_000;

/** Follows an order to its end: live, and where that is not to be had by asking. */
async function follow(order) {
  let failures = 0;
  while (shop.live && isFollowed(order) && failures < LIVE_FAILURES_MAX) {
    const said = await listen(order);
    if (said.refused) break;
    // API Gateway closes what is idle for 10 minutes or open for two hours: then at once, and the state comes first.
    failures = said.something ? 0 : failures + 1;
    if (!isFollowed(order)) break;
    showLink("connecting again");
    await pause(Math.min(RECONNECT_MS_MAX, 500 * 2 ** failures) * (0.5 + Math.random() / 2));
  }
  while (isFollowed(order)) {
    showLink("asking every few seconds");
    await ask(order);
  }
  if (order === current) showLink("at its end");
}

/** One connection, until it is closed. */
function listen(order) {
  return new Promise((resolve) => {
    const said = { something: false, refused: false };
    const socket = new WebSocket(shop.live);
    const impatient = setTimeout(() => socket.close(), FIRST_ANSWER_MS);
    socket.onopen = () =>
      socket.send(JSON.stringify({ action: "watch", order_id: order.order.id, order_token: order.token }));
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.error) {
        said.refused = true;
      } else if (message.order_id === order.order.id) {
        // Only who has been sent the state is up to date: a change may be an old one that comes again.
        if (message.kind === "state") {
          clearTimeout(impatient);
          said.something = true;
        }
        if (order === current) {
          showLink("live", true);
          update(message);
        }
        if (!isFollowed(order)) socket.close();
      }
    };
    socket.onclose = () => {
      clearTimeout(impatient);
      resolve(said);
    };
  });
}

/** While an order is pending, the answer waits until it is no more. */
async function ask(order) {
  try {
    const read = await call("GET", `/orders/${order.order.id}`, { headers: { prefer: "wait=8" } });
    if (order === current) update({ status: read.status, reason: read.reason });
    tell(null);
    if (read.status === "pending") return;
  } catch (error) {
    tell(error);
  }
  await pause(3_000);
}

// ----------------------------------------------------------------------------------------- payment, cancellation

async function showPayment(order) {
  let payment;
  // It can be paid a moment after it is to be paid.
  do {
    payment = await call("GET", `/orders/${order.order.id}/payment`, { headers: { "order-token": order.token } })
      .catch(() => null);
    if (!payment?.client_secret) await pause(500);
  } while (order === current && order.status === "awaiting_payment" && !payment?.client_secret);
  if (order !== current || order.status !== "awaiting_payment") return;
  byId("payment").hidden = false;
  byId("due").textContent = `Due: ${money(payment.amount, payment.currency)}`;
  byId("pay").disabled = false;
  const confirm = shop.stripe.testCard ? payByTestCard : await mountCard(payment.client_secret);
  byId("pay").textContent = shop.stripe.testCard ? "Pay by test card" : "Pay";
  byId("pay").onclick = async () => {
    byId("pay").disabled = true;
    try {
      await confirm(payment.client_secret);
      byId("due").textContent = "Thank you. Your bank is asked.";
      tell(null);
    } catch (error) {
      tell(error);
      byId("pay").disabled = false;
    }
  };
}

/** Stripe's own form in Stripe's own frame: card data never reach this page. https://docs.stripe.com/payments/payment-element */
async function mountCard(clientSecret) {
  if (!window.Stripe) {
    await new Promise((resolve, reject) => {
      const script = element("script", { src: shop.stripe.script });
      script.onload = resolve;
      script.onerror = () => reject(new Error("Stripe cannot be reached."));
      document.head.append(script);
    });
  }
  const stripe = window.Stripe(shop.stripe.key);
  const elements = stripe.elements({ clientSecret });
  elements.create("payment").mount("#card");
  return async () => {
    const { error } = await stripe.confirmPayment({
      elements, redirect: "if_required", confirmParams: { return_url: location.href },
    });
    if (error) throw error;
  };
}

/** On a developer's machine, where no Stripe is: the server of this page pays by Stripe's card for tests. */
async function payByTestCard(clientSecret) {
  const answer = await fetch(shop.stripe.testCard, { method: "POST", body: clientSecret });
  if (!answer.ok) throw new Error("The card was declined.");
}

async function cancelOrder() {
  const order = current;
  byId("cancel").disabled = true;
  try {
    await call("POST", `/orders/${order.order.id}/cancel`, { headers: { "order-token": order.token } });
    tell(null);
    // The change itself comes as all others do; where nothing is live, with the next question.
  } catch (error) {
    tell(error);
  } finally {
    byId("cancel").disabled = false;
  }
}

function closeOrder() {
  sessionStorage.removeItem("order");
  current = null;
  byId("order").hidden = true;
  byId("products-title").scrollIntoView();
}

/** A page that is opened anew goes on with the order that it had. */
async function resume() {
  const kept = JSON.parse(sessionStorage.getItem("order") || "null");
  if (!kept) return;
  try {
    openOrder(await call("GET", `/orders/${kept.id}`, { headers: { "order-token": kept.token } }), kept.token);
  } catch (error) {
    if (error.status === 404 || error.status === 403) sessionStorage.removeItem("order");
    else tell(error);
  }
}

byId("checkout").onsubmit = place;
byId("more").onclick = () => loadProducts().catch(tell);
byId("cancel").onclick = cancelOrder;
byId("again").onclick = closeOrder;
if (shop) {
  loadProducts().catch(() => tell(new Error("The shop cannot be reached.")));
  resume();
} else {
  tell(new Error("config.js does not say where the shop is."));
}
