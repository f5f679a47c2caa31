// What a shop writes here once. `make storefront` answers with that of the local stack instead.
window.STOREFRONT = {
  // The output of the stack for its API, with the stage.
  api: "https://abc123.execute-api.eu-west-1.amazonaws.com/v1",
  // The output LiveUpdatesUrl, or "" where LiveUpdates is off.
  live: "wss://def456.execute-api.eu-west-1.amazonaws.com/v1",
  // null where orders are not paid; or Stripe's script and the shop's publishable key.
  stripe: null, // { script: "https://js.stripe.com/v3/", key: "pk_live_…" }
};
