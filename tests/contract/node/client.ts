// Places an order and reads it, by a client that is generated from docs/openapi.json: what the types say is what the API does.
//
// In: API_URL, with a product in the shop. Out: 0, or an error. The compiler has checked every field that is used here.
import createClient from "openapi-fetch";
import type { paths } from "./generated/api";

const client = createClient<paths>({ baseUrl: process.env.API_URL ?? "" });

const listed = await client.GET("/products", { params: { query: { limit: 100 } } });
const product = listed.data?.products.find((one) => one.active && one.stock >= 2);
if (!product) throw new Error(`no product to order: ${JSON.stringify(listed.error ?? listed.data)}`);

const placed = await client.POST("/orders", {
  params: { header: { "Idempotency-Key": crypto.randomUUID() } },
  body: {
    customer_email: "test@example.com",
    items: [{ product_id: product.id, quantity: 2 }],
    expected_total: product.price * 2,
  },
});
if (!placed.data) throw new Error(`not placed: ${JSON.stringify(placed.error)}`);

const read = await client.GET("/orders/{id}", {
  params: { path: { id: placed.data.id }, header: { Prefer: "wait=8" } },
});
if (read.data?.status !== "confirmed") throw new Error(`not confirmed: ${JSON.stringify(read.data ?? read.error)}`);

const refused = await client.POST("/orders", { body: { customer_email: "nobody", items: [] } });
if (refused.error?.type !== "urn:orderflow:problem:invalid-fields") throw new Error(JSON.stringify(refused));
console.log(`order ${read.data.id}: ${read.data.total_price} ${read.data.currency}, ${read.data.status}`);
